//! What has nothing to do with the model means in a block what it means outside of one.

use std::collections::{BTreeMap, HashMap};

use nnsight::prelude::*;

use crate::shared::tiny_llama;

/// Runs a block outside of a trace, inside of one, and in a function of a trace; all have the same result.
macro_rules! same {
    ($body:block) => {{
        #[allow(clippy::all, unused_mut, unused_assignments)]
        let outside = (|| $body)();
        let model = &tiny_llama();
        #[allow(unused_assignments)]
        let mut inside = None;
        #[allow(clippy::all, unused_mut, unused_assignments)]
        {
            trace!(model, vec![3, 17], {
                inside = Some($body);
                model.layers[0].output
            })
            .unwrap();
        }
        #[allow(clippy::all, unused_mut, unused_assignments)]
        {
            #[intervene]
            fn function() -> String {
                format!("{:?}", $body)
            }
            assert_eq!(function(), format!("{outside:?}"));
        }
        assert_eq!(Some(outside), inside);
    }};
}

#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    counts: [i32; 3],
    list: Vec<f64>,
    name: String,
    flag: bool,
}

impl State {
    fn is_ready(&self) -> bool {
        self.flag
    }
    fn ready(&self) -> bool {
        self.flag
    }
    fn print(&self) -> String {
        format!("<{}>", self.name)
    }
}

#[derive(Default)]
struct Pair<A, B> {
    first: A,
    second: B,
}

#[test]
fn indices_and_assignments() {
    same!({
        let mut state = State::default();
        state.counts[0] += 1;
        state.counts[2] = 7;
        state.list.push(0.5);
        state.list[0] *= 3.0;
        let mut by_layer = [vec![1], vec![2]];
        by_layer[0].push(4);
        let nested = Pair { first: vec![vec![1, 2], vec![3]], second: 0 };
        (state, by_layer, nested.first[0][1], nested.second)
    });
    same!({
        let mut map = HashMap::new();
        map.insert("a", 1);
        *map.entry("a").or_insert(0) += 2;
        let mut total = 0;
        for value in map.values_mut() {
            *value *= 10;
            total += *value;
        }
        total
    });
}

#[test]
fn conditions_and_moves() {
    same!({
        let state = State { flag: true, ..State::default() };
        let text = String::from("moved");
        let x;
        if state.ready() {
            x = text.len();
        } else {
            x = 0;
        }
        let text = String::from("again");
        let moved = if state.is_ready() { text } else { text + "!" };
        let c: bool = state.ready();
        let y;
        if c {
            y = moved;
        } else {
            y = String::new();
        }
        (x, y)
    });
    same!({
        let mut seen = Vec::new();
        for i in 0..5 {
            if i == 3 {
                break;
            }
            if seen.contains(&i) {
                continue;
            }
            seen.push(i);
        }
        let Some(first) = seen.first() else { return Default::default() };
        (*first, seen.len())
    });
}

#[test]
fn matches_on_any_number() {
    same!({
        let byte = |x: u8| match x {
            1u8 => "one",
            2 | 3 => "some",
            _ => "many",
        };
        let wide = |x: u128| match x {
            0 => 0,
            340282366920938463463374607431768211455 => 2,
            _ => 1,
        };
        let signed = |x: &i16| match x {
            -1 => "minus",
            _ => "else",
        };
        let exact = match 5usize {
            5 => String::from("moved"),
            _ => String::new(),
        };
        (byte(1), byte(3), byte(9), wide(0), wide(u128::MAX), wide(4), signed(&-1), signed(&4), exact)
    });
}

#[test]
fn methods_and_fields_that_have_the_names_of_ours() {
    same!({
        let state = State { name: "x".into(), ..State::default() };
        let printed = state.print();
        let same_name = if state.name == State::default().name { 1 } else { 2 };
        let Pair { first, .. } = Pair { first: 3, second: "s" };
        let (a, _) = (Pair { first: (1, String::from("p")), second: () }).first;
        (printed, same_name, first, a)
    });
    same!({
        let slots = Pair { first: Default::default(), second: 1 };
        let inferred = slots.first;
        let typed: u8 = inferred;
        let mut later = Pair { first: Vec::new(), second: 0 };
        let copy = later.second;
        later.first.push(1u16);
        let owned = later.first;
        (typed, copy, owned)
    });
    same!({
        fn draw(rng: &mut u64) -> u64 {
            *rng = *rng * 48271 % 65537;
            *rng
        }
        let mut seed = 7;
        let holder = Pair { first: &mut seed, second: () };
        let first = draw(holder.first);
        let second = draw(holder.first);
        (first, second, *holder.first)
    });
}

#[test]
fn fields_of_self_are_plain() {
    struct Experiment {
        model: &'static Llama<Dynamic>,
        rng: u32,
        prompts: Vec<u32>,
        tally: BTreeMap<usize, usize>,
    }
    impl Experiment {
        fn run(&mut self, log: &mut Vec<String>) -> usize {
            trace!(self.model, self.prompts.clone(), {
                self.rng += 1;
                bump(&mut self.rng);
                self.tally.insert(model.layers.len(), self.prompts.len());
                self.prompts[0] += 1;
                log.push(format!("{}", self.prompts[0]));
                for (i, layer) in model.layers.iter().enumerate() {
                    if wanted(i) {
                        let kept = i;
                        *self.tally.entry(kept).or_default() += 1;
                        log.push(layer.output.path());
                    }
                }
                model.lm_head.output
            })
            .unwrap();
            self.tally.len()
        }
    }
    fn bump(x: &mut u32) {
        *x *= 2;
    }
    fn wanted(layer: usize) -> bool {
        layer.is_multiple_of(2)
    }
    let model: &'static Llama<Dynamic> = Box::leak(Box::new(tiny_llama()));
    let mut experiment = Experiment { model, rng: 1, prompts: vec![3, 4], tally: BTreeMap::new() };
    let mut log = Vec::new();
    assert_eq!(experiment.run(&mut log), 3);
    assert_eq!((experiment.rng, experiment.prompts[0], log.len()), (4, 4, 3));
}

/// What cannot be seen to be a `bool` when the block is rewritten is one all the same: one branch is taken, and is the only one.
#[test]
#[allow(clippy::needless_late_init)]
fn a_condition_that_might_be_a_value_takes_one_branch() {
    fn wanted(layer: usize) -> bool {
        layer.is_multiple_of(2)
    }
    fn consume(seen: &mut Vec<String>, name: String) -> usize {
        seen.push(name);
        seen.len()
    }
    let model = tiny_llama();
    let (mut seen, mut lengths, mut passed) = (Vec::new(), Vec::new(), Vec::new());
    trace!(model, vec![3, 17], {
        'layers: for round in 0..2 {
            for (index, layer) in model.layers.iter().enumerate() {
                let name = format!("{round}: layer {index}");
                // The name is moved in either branch.
                let length = if wanted(index) { consume(&mut seen, name) } else { consume(&mut seen, name + "!") };
                lengths.push(length);
                let kept;
                let is_kept: bool = wanted(index);
                if is_kept {
                    kept = layer.output.path();
                } else {
                    kept = String::new();
                }
                if wanted(index + 1) {
                    continue;
                } else if wanted(round + 1) {
                    break 'layers;
                }
                passed.push(kept);
                loop {
                    if wanted(index) {
                        break;
                    }
                }
                while index < 10 {
                    if wanted(index) { break } else { continue 'layers }
                }
            }
        }
        model.lm_head.output
    })
    .unwrap();
    assert_eq!(seen, ["0: layer 0", "0: layer 1!", "0: layer 2", "1: layer 0"]);
    assert_eq!(lengths, [1, 2, 3, 4]);
    assert_eq!(passed, ["layers.0.output", "layers.2.output"]);
}

#[test]
fn a_lint_of_order_is_never_wrong() {
    let model = tiny_llama();
    // Names that hold another value by now.
    let shadowed = trace!(model, vec![3, 17], {
        let h = model.layers[2].output;
        let deep = h;
        for h in [model.layers[0].output, model.layers[1].input] {
            effect(model.layers[1].output) = h;
        }
        let mut last = model.layers[2].output;
        last = model.layers[0].output;
        effect(model.layers[1].mlp.output) = last;
        {
            let deep = model.layers[0].output;
            effect(model.layers[1].mlp.output) = deep;
        }
        let (deep, _) = (model.layers[0].output, deep);
        effect(model.layers[1].mlp.output) = deep;
        model.lm_head.output
    });
    assert!(shadowed.is_ok(), "{:?}", shadowed.err());
    let steps = generate!(model, vec![3, 17], max_new_tokens = 3, min_new_tokens = 3, {
        let s = model.step(1);
        let a = s.layers[2].output;
        let s = model.step(2);
        s.layers[1].output = a;
        model.tokens()
    });
    assert!(steps.is_ok(), "{:?}", steps.err());
}

#[test]
fn macros_are_looked_into() {
    let model = tiny_llama();
    let found = trace!(model, vec![3, 17], {
        assert_ne!(model.layers[-1].output.path(), model.layers[0].output.path());
        assert!(matches!(model.layers[-1].output.path().as_str(), "layers.2.output"));
        let mut text = String::new();
        std::fmt::Write::write_fmt(&mut text, format_args!("{}", model.layers[-1].output.path())).unwrap();
        assert_eq!(text, "layers.2.output");
        model.layers[-1].output
    });
    assert!(found.is_ok());
}
