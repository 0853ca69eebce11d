//! Lists of modules with lengths of their own: what the table knows of them, which indices they have, and which of them the stages are made of.

use nnsight::Module;
use nnsight::candle_core::Tensor as Candle;
use nnsight::module::{Cx, Forward, Instrument, Place, Role};
use nnsight::prelude::*;
use nnsight::sites::{Registrar, SiteTable};

use crate::shared::{difference, tiny_llama};

type Result<T> = std::result::Result<T, nnsight::TraceError>;

nnsight::model_dims!(Down, Up, Parts);
dim!(Thirds = 3);

/// Adds one to what it is given.
#[derive(Default, Module)]
#[module(sites = StepSites, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden))]
struct Step {
    place: Place,
}

impl Forward for Step {
    fn forward(&self, x: &Candle, _cx: &mut Cx) -> Result<Candle> {
        Ok((x + 1.0)?)
    }
}

/// Parts that run one after the other.
#[derive(Module)]
#[module(sites = ChainSites, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden))]
struct Chain {
    #[child(count = Thirds)]
    parts: Vec<Step>,
    place: Place,
}

impl Forward for Chain {
    fn forward(&self, x: &Candle, cx: &mut Cx) -> Result<Candle> {
        self.parts.iter().try_fold(x.clone(), |x, part| cx.call(part, &x))
    }
}

fn chain(parts: usize) -> Chain {
    Chain { parts: (0..parts).map(|_| Step::default()).collect(), place: Place::default() }
}

/// Blocks on the way down, one in the middle, and blocks on the way up, each of which has parts.
#[derive(Module)]
#[module(sites = UnetSites)]
#[allow(dead_code)]
struct Unet {
    #[child(count = Down)]
    down_blocks: Vec<Step>,
    #[child]
    mid_block: Step,
    #[child(count = Up, stages)]
    up_blocks: Vec<UpBlock>,
    place: Place,
}

#[derive(Module)]
#[module(sites = UpSites, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden))]
#[allow(dead_code)]
struct UpBlock {
    #[child(count = Parts)]
    parts: Vec<Step>,
    place: Place,
}

fn unet(sizes: &[(&str, usize)]) -> Result<SiteTable> {
    Registrar::new("Unet", 7, sizes).model::<Unet>()
}

#[test]
fn every_list_of_a_model_is_as_long_as_its_size() {
    let table = unet(&[("Down", 3), ("Up", 2), ("Parts", 4)]).unwrap();
    let length = |path: &str| table.module(path).unwrap().length;
    assert_eq!([length("down_blocks"), length("up_blocks"), length("up_blocks.1.parts")], [Some(3), Some(2), Some(4)]);
    assert_eq!(length("mid_block"), None);
    for path in ["down_blocks.2.output", "up_blocks.1.parts.3.input", "up_blocks.0.output"] {
        assert!(table.position(path).is_some(), "{path}");
    }
    for path in ["down_blocks.3.output", "up_blocks.2.output", "up_blocks.0.parts.4.output"] {
        assert!(table.position(path).is_none(), "{path}");
    }
    // As many as the modules themselves have places for.
    let part = Step::default;
    let up = || UpBlock { parts: (0..4).map(|_| part()).collect(), place: Place::default() };
    let mut model =
        Unet { down_blocks: (0..3).map(|_| part()).collect(), mid_block: part(), up_blocks: (0..2).map(|_| up()).collect(), place: Place::default() };
    let mut sites = 0;
    model.attach(&mut sites);
    assert_eq!(sites, table.sites().len());
    assert_eq!(model.up_blocks[1].parts[3].place().first(), table.position("up_blocks.1.parts.3.input"));
}

#[test]
fn the_stages_are_the_list_that_says_so_and_not_the_first() {
    let table = unet(&[("Down", 3), ("Up", 2), ("Parts", 4)]).unwrap();
    assert_eq!(table.depth, 2);
    let stage = |path: &str| table.stage_of(table.position(path).unwrap());
    // All that comes before them is the first stage.
    assert_eq!(["down_blocks.2.output", "mid_block.input"].map(stage), [Some(0); 2]);
    assert_eq!(["up_blocks.0.input", "up_blocks.0.parts.3.output", "up_blocks.1.parts.0.input"].map(stage), [Some(1), Some(1), Some(2)]);
    let boundary = |path: &str| table.sites()[table.position(path).unwrap()].is_residual_boundary;
    assert!(boundary("up_blocks.0.input") && boundary("up_blocks.1.output"));
    // Of what comes later, not all goes through one of these.
    assert!(!boundary("down_blocks.0.output") && !boundary("up_blocks.1.parts.2.output"));
}

#[test]
fn a_list_without_a_length_is_refused_by_name() {
    let error = unet(&[("Down", 3), ("Up", 2)]).unwrap_err().to_string();
    assert!(error.contains("the list `up_blocks.0.parts` is as long as `Parts` of `Unet`, which is not known"), "{error}");
    assert!(error.contains("`#[child(count = Parts)]`"), "{error}");

    #[derive(Module)]
    #[module(sites = OddSites, input: (Batch, Seq, Hidden), output: (Batch, Seq, Hidden))]
    #[allow(dead_code)]
    struct Odd {
        #[child(count = Parts)]
        parts: Vec<Step>,
        place: Place,
    }
    impl Forward for Odd {
        fn forward(&self, x: &Candle, _cx: &mut Cx) -> Result<Candle> {
            Ok(x.clone())
        }
    }
    let odd = Odd { parts: vec![], place: Place::default() };
    let error = tiny_llama().attach("odd", Role::Probe("layers.1.output"), odd).err().unwrap().to_string();
    assert!(error.contains("`odd.parts`"), "{error}");
}

#[test]
fn two_lists_of_stages_are_refused() {
    #[derive(Module)]
    #[module(sites = TwoSites)]
    #[allow(dead_code)]
    struct Two {
        #[child]
        encoder: Vec<Step>,
        #[child]
        decoder: Vec<Step>,
        place: Place,
    }
    let error = Registrar::new("Two", 2, &[]).model::<Two>().unwrap_err().to_string();
    assert!(error.contains("`encoder` and `decoder` both say that they are"), "{error}");
}

#[test]
fn a_list_of_an_attached_module_has_a_length_of_its_own() {
    let model = tiny_llama().attach("chain", Role::Splice("layers.1.output"), chain(3)).unwrap();
    let (h, parts, last, sum) = trace!(model, vec![3, 17, 5], {
        let h = model.layers[1].output;
        let parts = model.attached.parts.iter().map(|part| part.output.value()).collect::<Vec<_>>();
        let mut sum = model.attached.parts[0].output * 0.0;
        for part in model.attached.parts[1..].iter() {
            sum += part.output;
        }
        (h, parts, model.attached.parts[-1].output, sum)
    })
    .unwrap();
    assert_eq!(parts.len(), 3);
    for (part, added) in parts.iter().zip([1.0, 2.0, 3.0]) {
        assert!(difference(part, &(&*h + added).unwrap()) < 1e-6);
    }
    assert!(difference(&last, &parts[2]) == 0.0);
    assert!(difference(&sum, &(&*parts[1] + &*parts[2]).unwrap()) < 1e-6);
}

#[test]
fn an_index_that_a_list_does_not_have_is_refused_with_its_name_and_length() {
    let model = tiny_llama().attach("chain", Role::Splice("layers.1.output"), chain(3)).unwrap();
    for (index, shown) in [(3i64, "3"), (-4, "-4")] {
        let error = trace!(model, vec![3, 17, 5], { model.attached.parts[index].output }).unwrap_err().to_string();
        assert!(error.contains(&format!("`chain.parts` has 3 thirds, and so no third {shown}")), "{error}");
        assert!(error.contains("its thirds are 0 to 2, or -3 to -1 from the end"), "{error}");
        let error = trace!(model, vec![3, 17, 5], { model.layers[index].output }).unwrap_err().to_string();
        assert!(error.contains(&format!("`layers` has 3 layers, and so no layer {shown}")), "{error}");
    }
    let error = trace!(model, vec![3, 17, 5], { model.attached.parts[7].output }).unwrap_err().to_string();
    assert!(error.contains("no third 7"), "{error}");
}

/// Compiles: a checkpoint that the compiler knows says nothing of the length of such a list, so that this is checked when it is traced.
#[allow(dead_code)]
fn literal_indices_of_a_list_that_is_no_size_of_the_checkpoint(model: &Llama<SmolLm2_135M>) -> Result<()> {
    let model = model.attach("chain", Role::Splice("layers.1.output"), chain(3))?;
    trace!(model, "x", { (model.attached.parts[2].output, model.attached.parts[-1].output, model.layers[29].output) })?;
    Ok(())
}

#[test]
fn a_list_that_is_not_as_long_as_it_says_is_refused() {
    let error = tiny_llama().attach("chain", Role::Splice("layers.1.output"), chain(2)).err().unwrap().to_string();
    // An input and an output of the chain and of each part.
    assert!(error.contains("`chain` has 6 sites, and would have 8 if each of its lists were as long as its `count` says"), "{error}");
}
