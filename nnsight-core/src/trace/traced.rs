//! Everything that can be done with a value.

use super::Tracer;
use super::operand::{Choice, Chosen, NumberFor, Operand};
use super::value::{Value, entry};
use crate::graph::{Binary, Compare, Function, NodeId, Op, Reduce, Region, Step, Unary};
use crate::types::{
    Bool, Dim, DimName, Expand, Float, HasAxis, Int, Kind, MatMul, MergeAxes, Number, One, PermuteTo, Ranked, Real, ReplaceAxis, Shape, ShapeOf,
    Signature, SplitAxis, SwapAxes,
};

macro_rules! unary {
    ($kind:ident: $($(#[$meta:meta])* $name:ident $op:ident;)+) => {$(
        $(#[$meta])*
        #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
        #[track_caller]
        fn $name(self) -> Value<'t, C, S, K>
        where
            K: $kind,
        {
            self.value().then(Op::Unary(Unary::$op))
        }
    )+};
}

macro_rules! binary {
    ($($(#[$meta:meta])* $name:ident $op:ident;)+) => {$(
        $(#[$meta])*
        #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
        #[track_caller]
        fn $name<V: Operand<'t, C, S, K>>(self, other: V) -> Value<'t, C, S, K> {
            let value = self.value();
            let other = other.operand(value.tracer);
            value.then_with(Op::Binary(Binary::$op), other)
        }
    )+};
}

macro_rules! compare {
    ($($(#[$meta:meta])* $name:ident $op:ident;)+) => {$(
        $(#[$meta])*
        #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
        #[track_caller]
        fn $name<V: Operand<'t, C, S, K>>(self, other: V) -> Value<'t, C, S, Bool> {
            let value = self.value();
            let other = other.operand(value.tracer);
            value.then_with(Op::Compare(Compare::$op), other)
        }
    )+};
}

macro_rules! renamed {
    ($($old:ident $new:ident $note:literal -> $kind:ty;)+) => {$(
        #[doc = concat!("As [`Traced::", stringify!($new), "`].")]
        #[deprecated(since = "0.2.0", note = $note)]
        #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
        #[track_caller]
        fn $old<A, I>(self, axis: A) -> Value<'t, C, S::Replaced, $kind>
        where
            S: ReplaceAxis<A, I, One>,
            K: Number,
        {
            self.$new(axis)
        }
    )+};
}

macro_rules! reduce {
    ($($(#[$meta:meta])* $name:ident $keep:ident $all:ident $op:ident -> $kind:ty;)+) => {$(
        $(#[$meta])*
        /// Along an axis, which is then gone.
        #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
        #[track_caller]
        fn $name<A, I>(self, _axis: A) -> Value<'t, C, S::Removed, $kind>
        where
            S: HasAxis<A, I>,
            K: Number,
        {
            self.value().then(Op::Reduce { reduce: Reduce::$op, axis: Some(S::POSITION), keep: false })
        }

        $(#[$meta])*
        /// Along an axis, which stays with one entry, so that the result broadcasts against the value.
        #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
        #[track_caller]
        fn $keep<A, I>(self, _axis: A) -> Value<'t, C, S::Replaced, $kind>
        where
            S: ReplaceAxis<A, I, One>,
            K: Number,
        {
            self.value().then(Op::Reduce { reduce: Reduce::$op, axis: Some(S::POSITION), keep: true })
        }

        $(#[$meta])*
        /// Over all entries.
        #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
        #[track_caller]
        fn $all(self) -> Value<'t, C, (), $kind>
        where
            K: Number,
        {
            self.value().then(Op::Reduce { reduce: Reduce::$op, axis: None, keep: false })
        }
    )+};
}

/// Everything that can be done with a [`Value`], a [`Site`](super::Site) or a part of one. Nothing here changes what the model does; only
/// an assignment does.
///
/// # Shapes
/// An axis is named, and must be one of the value's: `x.mean(Seq)`. A second operand has the same shape, a suffix of it, `One` in place
/// of an axis, or is a number.
///
/// # Errors
/// Sizes that are known only when the model runs are checked before anything is computed; the trace then fails with the line.
pub trait Traced<'t, C: Signature, S: Shape, K: Kind>: Copy {
    #[doc(hidden)]
    fn tracer(self) -> &'t Tracer;

    /// What is held here at this line of the program.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn value(self) -> Value<'t, C, S, K>;

    unary! {
        Real:
        /// `e^x` of every entry.
        exp Exp;
        /// Natural logarithm of every entry.
        ln Ln;
        /// Square root of every entry.
        sqrt Sqrt;
        /// Hyperbolic tangent of every entry.
        tanh Tanh;
        /// `1 / (1 + e^-x)` of every entry.
        sigmoid Sigmoid;
        /// GELU of every entry, in the tanh approximation that GPT-2 uses.
        gelu Gelu;
        /// `x * sigmoid(x)` of every entry.
        silu Silu;
        /// `1 / x` of every entry.
        recip Recip;
    }

    unary! {
        Number:
        /// Square of every entry.
        sqr Sqr;
        /// Absolute value of every entry.
        abs Abs;
        /// `max(x, 0)` of every entry.
        relu Relu;
    }

    /// Every entry to a power.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn powf(self, exponent: f64) -> Value<'t, C, S, K>
    where
        K: Real,
    {
        self.value().then(Op::Unary(Unary::Powf(exponent)))
    }

    /// Every entry, but at least `low` and at most `high`.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn clamp<N: NumberFor<K>>(self, low: N, high: N) -> Value<'t, C, S, K>
    where
        K: Number,
    {
        self.value().then(Op::Unary(Unary::Clamp(low.number(), high.number())))
    }

    binary! {
        /// The larger of both, entry by entry.
        maximum Maximum;
        /// The smaller of both, entry by entry.
        minimum Minimum;
    }

    compare! {
        /// Whether equal, entry by entry.
        eq Eq;
        /// Whether different, entry by entry.
        ne Ne;
        /// Whether less, entry by entry.
        lt Lt;
        /// Whether less or equal, entry by entry.
        le Le;
        /// Whether greater, entry by entry.
        gt Gt;
        /// Whether greater or equal, entry by entry.
        ge Ge;
    }

    reduce! {
        /// The sum.
        sum sum_keepdim sum_all Sum -> K;
        /// The mean.
        mean mean_keepdim mean_all Mean -> Float;
        /// The largest entry.
        max max_keepdim max_all Max -> K;
        /// The smallest entry.
        min min_keepdim min_all Min -> K;
        /// The unbiased variance, as in PyTorch.
        var var_keepdim var_all Var -> Float;
        /// The Euclidean norm.
        norm norm_keepdim norm_all Norm -> Float;
        /// The index of the largest entry.
        argmax argmax_keepdim argmax_all ArgMax -> Int;
        /// The index of the smallest entry.
        argmin argmin_keepdim argmin_all ArgMin -> Int;
    }

    renamed! {
        sum_keep sum_keepdim "renamed to `sum_keepdim`" -> K;
        mean_keep mean_keepdim "renamed to `mean_keepdim`" -> Float;
        max_keep max_keepdim "renamed to `max_keepdim`" -> K;
        min_keep min_keepdim "renamed to `min_keepdim`" -> K;
        var_keep var_keepdim "renamed to `var_keepdim`" -> Float;
        norm_keep norm_keepdim "renamed to `norm_keepdim`" -> Float;
        argmax_keep argmax_keepdim "renamed to `argmax_keepdim`" -> Int;
        argmin_keep argmin_keepdim "renamed to `argmin_keepdim`" -> Int;
    }

    /// Probabilities along an axis: `e^x / sum(e^x)`.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn softmax<A, I>(self, _axis: A) -> Value<'t, C, S, K>
    where
        S: HasAxis<A, I>,
        K: Real,
    {
        self.value().then(Op::Softmax { axis: S::POSITION, log: false })
    }

    /// Logarithms of probabilities along an axis.
    #[track_caller]
    fn log_softmax<A, I>(self, _axis: A) -> Value<'t, C, S, K>
    where
        S: HasAxis<A, I>,
        K: Real,
    {
        self.value().then(Op::Softmax { axis: S::POSITION, log: true })
    }

    /// Running sum along an axis.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn cumsum<A, I>(self, _axis: A) -> Value<'t, C, S, K>
    where
        S: HasAxis<A, I>,
        K: Number,
    {
        self.value().then(Op::CumSum { axis: S::POSITION })
    }

    /// The matrix product over the innermost axes: `(.., N, K)` by `(.., K, M)` is `(.., N, M)`.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn matmul<R: Shape, V: Traced<'t, C, R, Float>>(self, other: V) -> Value<'t, C, S::Product, Float>
    where
        S: MatMul<R>,
    {
        let other = other.value();
        self.value().then_with(Op::MatMul, other.id)
    }

    /// Two axes exchanged.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn transpose<A, I, B, J>(self, _first: A, _second: B) -> Value<'t, C, S::Swapped, K>
    where
        S: SwapAxes<A, I, B, J>,
    {
        let mut order = (0..S::RANK).collect::<Vec<_>>();
        order.swap(S::FIRST, S::SECOND);
        let names = S::Swapped::NAMES.iter().map(ToString::to_string).collect();
        self.value().then(Op::Permute { order, names })
    }

    /// The axes in the order of `target`: `x.permute((Heads, Batch, Seq, HeadDim))`.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn permute<T: Shape, I>(self, _target: T) -> Value<'t, C, T, K>
    where
        S: PermuteTo<T, I>,
    {
        let names = T::NAMES.iter().map(ToString::to_string).collect();
        self.value().then(Op::Permute { order: S::ORDER.to_vec(), names })
    }

    /// One axis as two, the outer one first: `z.split(HeadsHidden, (Heads, HeadDim))`.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn split<A, I, X: Dim<C>, Y: Dim<C>>(self, _axis: A, _into: (X, Y)) -> Value<'t, C, S::Split, K>
    where
        S: SplitAxis<A, I, X, Y>,
    {
        let value = self.value();
        let size = |name: &str, known: Option<usize>| (name.to_string(), known.or_else(|| value.tracer.table().size_of(name)));
        let into = [size(X::NAME, X::SIZE), size(Y::NAME, Y::SIZE)];
        value.then(Op::Split { axis: <S as HasAxis<A, I>>::POSITION, into })
    }

    /// Two neighbouring axes as one: `z.merge((Heads, HeadDim), HeadsHidden)`.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn merge<X, Y, I, N: DimName>(self, _axes: (X, Y), _into: N) -> Value<'t, C, S::Merged, K>
    where
        S: MergeAxes<X, Y, I, N>,
    {
        self.value().then(Op::Merge { axis: S::POSITION, name: N::NAME.to_string() })
    }

    /// Another name for an axis, so that a shape can have the same one twice: `h.rename(Seq, Key)`.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn rename<A, I, N: DimName>(self, _axis: A, _name: N) -> Value<'t, C, S::Replaced, K>
    where
        S: ReplaceAxis<A, I, N>,
    {
        self.value().then(Op::Rename { axis: S::POSITION, name: N::NAME.to_string() })
    }

    /// The entry of an axis that `choice` names: a number such as a token id, or a traced value that has one index for each of the
    /// other entries.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn pick<A, I, P>(self, _axis: A, choice: P) -> Value<'t, C, S::Removed, K>
    where
        S: HasAxis<A, I>,
        P: Choice<'t, C, S::Removed>,
    {
        let value = self.value();
        match choice.choice() {
            Chosen::Entry(index) => value.then(Op::Slice(entry(S::POSITION, index))),
            Chosen::Each(indices) => value.then_with(Op::Pick { axis: S::POSITION }, indices),
        }
    }

    /// An axis of one entry more, so that the value can be assigned to a place that has the axis: `h.at(Seq, -1).expand(Seq)`. It is the second
    /// axis if the first is `Batch`, else the first.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn expand<A: DimName>(self, _axis: A) -> Value<'t, C, S::Expanded, K>
    where
        S: Expand,
    {
        let one: Value<'t, C, S::Expanded, K> = self.value().then(Op::Stack { name: One::NAME.to_string() });
        match S::POSITION {
            0 => one,
            position => one.then(swap::<S::Expanded>(0, position, &move_first(S::Expanded::NAMES, position))),
        }
    }

    /// Whether it is true everywhere: a single boolean, for an `if`.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn all(self) -> Value<'t, C, (), Bool>
    where
        Self: Traced<'t, C, S, Bool>,
    {
        let value = <Self as Traced<'t, C, S, Bool>>::value(self);
        value.cast::<Int>().min_all().gt(0)
    }

    /// Whether it is true anywhere: a single boolean, for an `if`.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn any(self) -> Value<'t, C, (), Bool>
    where
        Self: Traced<'t, C, S, Bool>,
    {
        let value = <Self as Traced<'t, C, S, Bool>>::value(self);
        value.cast::<Int>().max_all().gt(0)
    }

    /// For every index of `indices`, which has the shape with the axis `N` in place of `A`, the entry of `A` at that index.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn gather<A, I, N, V>(self, _axis: A, indices: V) -> Value<'t, C, S::Replaced, K>
    where
        S: ReplaceAxis<A, I, N>,
        V: Traced<'t, C, S::Replaced, Int>,
    {
        let indices = indices.value();
        self.value().then_with(Op::Gather { axis: S::POSITION }, indices.id)
    }

    /// The entries of an axis that a list of indices names.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn index_select<A, I, N: DimName, V>(self, _axis: A, indices: V) -> Value<'t, C, S::Replaced, K>
    where
        S: ReplaceAxis<A, I, N>,
        V: Traced<'t, C, (N,), Int>,
    {
        let indices = indices.value();
        let selected: Value<'t, C, S::Replaced, K> = self.value().then_with(Op::IndexSelect { axis: S::POSITION }, indices.id);
        selected.then(Op::Rename { axis: S::POSITION, name: N::NAME.to_string() })
    }

    /// The first value where this is true, else the second.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn where_<L: Kind, A, B>(self, yes: A, no: B) -> Value<'t, C, S, L>
    where
        Self: Traced<'t, C, S, Bool>,
        A: Operand<'t, C, S, L>,
        B: Operand<'t, C, S, L>,
    {
        let condition: Value<'t, C, S, Bool> = <Self as Traced<'t, C, S, Bool>>::value(self);
        let (yes, no) = (yes.operand(condition.tracer), no.operand(condition.tracer));
        Value::new(condition.tracer, condition.tracer.push(Op::Where, &[condition.id, yes, no]))
    }

    /// The `k` largest entries of the innermost axis, best first, and their indices.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn topk<A, I>(self, _axis: A, k: usize) -> (Value<'t, C, S::Replaced, K>, Value<'t, C, S::Replaced, Int>)
    where
        S: ReplaceAxis<A, I, Ranked>,
        K: Number,
    {
        let last = S::RANK - 1;
        let mut value = self.value();
        if S::POSITION != last {
            value = value.then(swap::<S>(S::POSITION, last, S::NAMES));
        }
        let mut found = [value.id; 2];
        // A closure would have the line of this file and not the caller's.
        for (id, indices) in found.iter_mut().zip([false, true]) {
            *id = value.tracer.push(Op::TopK { k, indices }, &[value.id]);
            if S::POSITION != last {
                *id = value.tracer.push(swap::<S>(S::POSITION, last, S::Replaced::NAMES), &[*id]);
            }
        }
        let [values, indices] = found;
        (Value::new(value.tracer, values), Value::new(value.tracer, indices))
    }

    /// The same shape filled with zeros.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn zeros_like(self) -> Value<'t, C, S, K> {
        self.value().then(Op::Full(0.0))
    }

    /// The same shape filled with ones.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn ones_like(self) -> Value<'t, C, S, K> {
        self.value().then(Op::Full(1.0))
    }

    /// The same shape filled with numbers from the standard normal distribution; the same seed gives the same numbers.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn randn_like(self, seed: u64) -> Value<'t, C, S, Float> {
        self.value().then(Op::Randn { seed })
    }

    /// The value as another kind: `mask.cast::<Float>()`.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn cast<L: Kind>(self) -> Value<'t, C, S, L> {
        self.value().then(Op::Cast(L::TAG))
    }

    /// A function of your own on the tensor, which gives one of the shape `shape`. Axes that the value has keep their sizes.
    ///
    /// The function exists in this program only: a graph that applies one can neither be stored nor sent. A named
    /// [`Operation`](crate::graph::Operation) can. What candle records of it is what gradients go through.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn apply<T: ShapeOf<C>>(
        self,
        _shape: T,
        function: impl Fn(&candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> + Send + Sync + 'static,
    ) -> Value<'t, C, T, K> {
        let value = self.value();
        let function = value.tracer.function(Function::new(move |args| function(&args[0])));
        value.then(applied::<C, T, K>(value.tracer, function))
    }

    /// As [`Traced::apply`], of two values.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn apply_with<R: Shape, L: Kind, T: ShapeOf<C>>(
        self,
        other: impl Traced<'t, C, R, L>,
        _shape: T,
        function: impl Fn(&candle_core::Tensor, &candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> + Send + Sync + 'static,
    ) -> Value<'t, C, T, K> {
        let (value, other) = (self.value(), other.value());
        let function = value.tracer.function(Function::new(move |args| function(&args[0], &args[1])));
        value.then_with(applied::<C, T, K>(value.tracer, function), other.id)
    }

    /// An operation that a crate has registered under a name, with its settings; it gives a value of the shape `shape`.
    ///
    /// # Errors
    /// Where none is registered, or it gives another shape, the trace fails with this line before anything is computed.
    #[must_use = "this computes a new value and changes nothing: assign it to a place of the model, or use it"]
    #[track_caller]
    fn operation<T: Shape>(self, name: &str, parameters: &[f64], _shape: T) -> Value<'t, C, T, K> {
        let names = T::NAMES.iter().map(ToString::to_string).collect();
        self.value().then(Op::Custom { operation: name.to_string(), parameters: parameters.to_vec(), names })
    }

    /// Prints the value with its name and line when it is computed, and passes it on.
    #[track_caller]
    fn log(self, label: &str) -> Value<'t, C, S, K> {
        self.value().then(Op::Log { label: label.to_string() })
    }

    /// Prints the value with its name in the program and its line when it is computed, and passes it on. Outside of a block that the macros
    /// rewrite, its name is that of the node.
    #[track_caller]
    fn print(self) -> Value<'t, C, S, K> {
        self.log(super::label::take())
    }
}

fn applied<C, T: ShapeOf<C>, K: Kind>(tracer: &Tracer, function: crate::graph::FunctionId) -> Op {
    let axes = T::axes().into_iter().map(|axis| {
        let size = axis.size.or_else(|| tracer.table().size_of(&axis.name));
        (axis.name.into_owned(), size)
    });
    Op::Apply { function, axes: axes.collect(), kind: K::TAG }
}

/// A node, and the part of it that is meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub node: NodeId,
    pub steps: [Step; 5],
    pub len: u8,
}

impl Origin {
    /// What a node is: of one that reads a part of a site, that part of the site.
    pub fn of(tracer: &Tracer, node: NodeId) -> Self {
        let mut steps = [Step { axis: 0, start: 0, end: None, single: false }; 5];
        let Some((whole, region)) = tracer.whole_of(node).filter(|(_, region)| region.0.len() <= steps.len()) else {
            return Origin { node, steps, len: 0 };
        };
        let len = region.0.len();
        steps[..len].copy_from_slice(&region.0[..len]);
        Origin { node: whole, steps, len: len as u8 }
    }

    pub fn region(&self) -> Region {
        Region(self.steps[..self.len as usize].to_vec())
    }
}

/// The names of axes, of which one was put first.
fn move_first<'n>(names: &[&'n str], position: usize) -> Vec<&'n str> {
    let mut names = names.to_vec();
    names[..=position].rotate_right(1);
    names
}

/// Exchanges two axes at run-time positions.
fn swap<S: Shape>(a: usize, b: usize, names: &[&str]) -> Op {
    let mut order = (0..S::RANK).collect::<Vec<_>>();
    order.swap(a, b);
    Op::Permute { names: order.iter().map(|&axis| names[axis].to_string()).collect(), order }
}

impl<'t, C: Signature, S: Shape, K: Kind> Traced<'t, C, S, K> for Value<'t, C, S, K> {
    fn tracer(self) -> &'t Tracer {
        self.tracer
    }
    fn value(self) -> Value<'t, C, S, K> {
        self
    }
}
