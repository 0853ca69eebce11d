//! The programs of the README and the other documents, word for word, compiled and run. `documents.rs` sees to it that none is missing.
//!
//! A document shows the lines that matter; what a newcomer's program has around them is here: a model, prompts, token ids.

use nnsight::TraceError;
use nnsight::prelude::*;

use crate::shared::{CLEAN, CORRUPTED, smollm2, tiny_llama};

/// Whole as it is: what `cargo run` would run.
#[rustfmt::skip]
mod first {
    use nnsight::prelude::*;

    fn main() -> nnsight::Result<()> {
        let model = Llama::<SmolLm2_135M>::load(Source::default())?;
        let (hidden, logits) = trace!(model, "The Eiffel Tower is in the city of", {
            model.layers[5].mlp.output *= 0.0;                // set, in place
            model.layers[10].output.at(Seq, -1) += 2.0;       // one position of a site
            (model.layers[-1].output, model.lm_head.output)   // the block's value is what is saved
        })?;
        println!("{hidden:?}");                               // Tensor(Batch, Seq, Hidden: [1, 9, 576])
        println!("{}", model.tokenizer().decode_top(&logits.at(Seq, -1), 5)?);
        Ok(())
    }

    #[test]
    fn the_first_program_runs() {
        main().unwrap();
    }
}

#[test]
#[rustfmt::skip]
fn rows_without_padding_are_subtracted() {
    fn program(model: &Llama<SmolLm2_135M>) -> nnsight::Result<Tensor<SmolLm2_135M, (Hidden,)>> {
        let hidden = trace!(model, ["I love you", "I really hate you"], { model.layers[9].output })?;
        let rows = hidden.rows()?;                                          // one for each prompt, without the padding
        let direction = (&rows[0].at(Seq, -1) - &rows[1].at(Seq, -1))?;     // Tensor(Hidden: [576])
        Ok(direction)
    }
    assert_eq!(format!("{:?}", program(smollm2()).unwrap()), "Tensor(Hidden: [576])");
}

#[test]
#[rustfmt::skip]
fn values_cross_between_prompts() {
    fn program(model: &Llama<SmolLm2_135M>, clean_prompt: &str, corrupted_prompt: &str) -> Result<Tensor<SmolLm2_135M, (Batch, Vocab)>, TraceError> {
        let patched = trace!(model, {
            let clean = invoke!(clean_prompt, { model.layers[14].output.at(Seq, 9) });
            invoke!(corrupted_prompt, {
                model.layers[14].output.at(Seq, 9) = clean;
                model.lm_head.output.at(Seq, -1)
            })
        })?;
        Ok(patched)
    }
    assert_eq!(program(smollm2(), CLEAN, CORRUPTED).unwrap().dims(), [1, 49152]);
}

#[test]
#[rustfmt::skip]
fn a_logit_lens() {
    fn program(model: &Llama<Dynamic>, prompt: Vec<u32>) -> Result<Vec<Tensor<Dynamic, (Batch, Seq, Vocab)>>, TraceError> {
        let lens = trace!(model, prompt, {
            model.layers.iter().map(|layer| model.lm_head(model.norm(layer.output)).softmax(Vocab)).collect::<Vec<_>>()
        })?;
        Ok(lens)
    }
    assert_eq!(program(tiny_llama(), vec![3, 17, 5]).unwrap().len(), tiny_llama().depth());
}

#[test]
#[rustfmt::skip]
fn every_step_of_a_generation() {
    fn program(model: &Llama<SmolLm2_135M>, prompt: &str, direction: Tensor<SmolLm2_135M, (Hidden,)>) -> nnsight::Result<usize> {
        let (tokens, norms) = generate!(model, prompt, max_new_tokens = 20, {
            for step in model.steps(..) {
                step.layers[9].output += &direction;              // every step; also step(3), steps(0..5), steps([0, 2])
            }
            (model.tokens(), model.steps(..).map(|step| step.layers[20].output.norm(Hidden)))
        })?;
        assert!(tokens.dims()[1] <= 20);
        Ok(norms.len())
    }
    let zeros = nnsight::candle_core::Tensor::zeros(576, DType::F32, &Device::Cpu).unwrap();
    let steps = program(smollm2(), CLEAN, Tensor::new(zeros).unwrap()).unwrap();
    assert!((1..=20).contains(&steps), "{steps}");
}

#[test]
#[rustfmt::skip]
fn a_whole_experiment_at_once() {
    fn program(model: &Llama<Dynamic>, clean: Vec<u32>, corrupted: Vec<u32>, mary: u32) -> nnsight::Result<Vec<usize>> {
        let clean = trace!(model, clean, { model.layers.iter().map(|layer| layer.output).collect::<Vec<_>>() })?;
        let grid = sweep!(model, corrupted, for (layer, position) in grid(0..model.depth(), 0..14) {
            model.layers[layer].output.at(Seq, position) = clean[layer].at(Seq, position);
            model.lm_head.output.at(Seq, -1).pick(Vocab, mary)
        })?;                                                      // Tensor(Over<0>, Over<1>, Batch: [30, 14, 1])
        Ok(grid.dims().to_vec())
    }
    let (clean, corrupted) = ((0..14).collect(), (20..34).collect());
    assert_eq!(program(tiny_llama(), clean, corrupted, 5).unwrap(), [tiny_llama().depth(), 14, 1]);
}

#[test]
#[rustfmt::skip]
fn gradients_are_read_and_edited() {
    fn program(model: &Llama<SmolLm2_135M>, prompt: &str, mary: u32) -> Result<Vec<usize>, TraceError> {
        let (gradient, loss) = trace!(model, prompt, {
            let h = model.layers[10].output;
            let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, mary);
            model.layers[20].output.grad(loss) *= 2.0;
            (h.grad(loss), loss)
        })?;
        assert_eq!(loss.dims(), [1]);
        Ok(gradient.dims().to_vec())
    }
    assert_eq!(program(smollm2(), CLEAN, 5).unwrap()[2], 576);
}

/// Compiled only: the files are a repository's of the hub and a folder of the reader's.
#[allow(dead_code)]
#[rustfmt::skip]
fn models_from_everywhere() -> nnsight::Result<()> {
    let by_name = Llama::<SmolLm2_135M>::load("smollm2-135m")?;
    let from_hub = Llama::<Llama3_2_1B>::load("meta-llama/Llama-3.2-1B")?;
    let pinned = Source::from("openai-community/gpt2").revision("607a30d783dfa663caf39e06633721c8d4cfcd7e");   // a commit: the same bytes always
    let any = Gpt2::<Dynamic>::load(Source::from("./my-gpt2").dtype(DType::BF16))?;   // config known only when the program runs
    println!("{by_name}");                                                             // every module and every site, with sizes
    drop((from_hub, pinned, any));
    Ok(())
}
