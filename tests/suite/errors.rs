//! What the user reads of an error: this file is the program that it is about.

use std::error::Error as _;
use std::fmt::Debug;

use nnsight::TraceError;
use nnsight::candle_core::{self, DType};
use nnsight::prelude::*;

use crate::shared::{folder, tiny_llama};

const PROMPT: [u32; 6] = [3, 17, 5, 40, 22, 8];

/// Holds what `main` would print against the sentence, a line of this file, what is marked in it, and the advice.
#[track_caller]
fn shows<T>(result: Result<T, impl Debug>, sentence: &str, code: &str, marked: &str, help: &str) {
    let Err(error) = result else { panic!("this should have been refused: {sentence}") };
    let found = include_str!("errors.rs").lines().enumerate().find(|(_, line)| line.trim() == code);
    let (index, line) = found.unwrap_or_else(|| panic!("this file has no line {code:?}"));
    let (number, column) = ((index + 1).to_string(), line.find(marked).expect("the line has what is marked"));
    let gutter = " ".repeat(number.len());
    let expected = [
        sentence.to_string(),
        format!("{gutter}--> {}:{number}:{}", file!(), column + 1),
        format!("{gutter} |"),
        format!("{number} | {line}"),
        format!("{gutter} | {}^", " ".repeat(column)),
        format!("{gutter} = help: {help}"),
    ];
    let expected = if help.is_empty() { &expected[..5] } else { &expected[..] };
    assert_eq!(format!("Error: {error:?}"), format!("Error: {}", expected.join("\n")));
}

#[test]
fn an_edit_without_effect_is_shown_with_its_line_and_what_to_write() {
    let model = tiny_llama();
    // What `main` returns is the error of the models.
    let main = || -> nnsight::Result<()> {
        trace!(model, PROMPT.to_vec(), {
            model.layers[1].output *= 0.0;
            model.layers[0].output
        })?;
        Ok(())
    };
    shows(
        main(),
        "the edit of `layers.1.output` has no effect on anything that is saved: nothing that is saved is read after it",
        "model.layers[1].output *= 0.0;",
        "*=",
        "save something that comes after it, or write `effect(…) = …` if it is wanted all the same",
    );
}

#[test]
fn indices_of_a_list_are_shown_with_the_axis() {
    let model = tiny_llama();
    let result = trace!(model, PROMPT.to_vec(), {
        let chosen = model.layers[1].output.select(Seq, [0, 99]);
        chosen.mean_all()
    });
    // The list becomes part of the graph where it is read.
    let error = result.unwrap_err();
    assert_eq!(error.sentence(), "index 99 lies outside of an axis of 6 entries, `Seq`");
    assert_eq!(error.help().as_deref(), Some("its entries are 0 to 5, or -6 to -1 from the end"));
    assert_eq!(error.source_line().unwrap().file, file!());
}

#[test]
fn a_step_that_cannot_be_is_shown_where_it_is_named() {
    let model = tiny_llama();
    shows(
        generate!(model, PROMPT.to_vec(), max_new_tokens = 3, {
            let late = model.step(7);
            late.layers[0].output
        }),
        "there is no step 7: the run has at most 3",
        "let late = model.step(7);",
        "step(7)",
        "`generate!(…, max_new_tokens = …)` sets how many",
    );
}

#[test]
fn too_many_of_the_largest_are_shown_where_they_are_asked_for() {
    let model = tiny_llama();
    shows(
        trace!(model, PROMPT.to_vec(), {
            let (best, _) = model.lm_head.output.topk(Vocab, 65);
            best
        }),
        "`topk`: there are no 65 largest entries of the axis Vocab = 64",
        "let (best, _) = model.lm_head.output.topk(Vocab, 65);",
        "topk",
        "",
    );
}

#[test]
fn prompts_are_shown_where_they_are_given() {
    let model = tiny_llama();
    shows(
        trace!(model, Vec::<u32>::new(), { model.lm_head.output }),
        "prompt 0 of invoke 0 is empty",
        "trace!(model, Vec::<u32>::new(), { model.lm_head.output }),",
        "Vec::",
        "a model needs at least one token; to begin from nothing, give the token that begins a text",
    );
    shows(
        trace!(model, &[1, 64][..], { model.lm_head.output }),
        "token 64 of prompt 0, invoke 0, is not in the vocabulary of `Dynamic` (0 to 63)",
        "trace!(model, &[1, 64][..], { model.lm_head.output }),",
        "&[1, 64]",
        "take ids from this model's own tokenizer, `model.tokenizer().encode(…)`",
    );
    // The second of two invokes.
    shows(
        trace!(model, {
            let first = invoke!(vec![1, 2], { model.lm_head.output.at(Seq, -1) });
            let second = invoke!(vec![1; 65], { model.lm_head.output.at(Seq, -1) });
            (first, second)
        }),
        "prompt 0 of invoke 1 has 65 tokens; `Dynamic` reads at most 64",
        "let second = invoke!(vec![1; 65], { model.lm_head.output.at(Seq, -1) });",
        "vec!",
        "shorten the prompt, or generate fewer tokens",
    );
    // What the model handle fails with, here as the error that `main` returns.
    let main = || -> nnsight::Result<()> {
        trace!(model, "text", { model.lm_head.output })?;
        Ok(())
    };
    shows(
        main(),
        "the checkpoint has no tokenizer; give token ids instead of text",
        "trace!(model, \"text\", { model.lm_head.output })?;",
        "\"text\"",
        "",
    );
}

#[test]
fn tensors_of_another_shape_or_kind_are_shown_where_they_get_their_type() {
    let zeros = candle_core::Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    shows(
        Tensor::<Dynamic, (Hidden,)>::new(zeros.clone()),
        "expected a tensor of shape (Hidden), found [2, 3]",
        "Tensor::<Dynamic, (Hidden,)>::new(zeros.clone()),",
        "Tensor::",
        "reshape it with candle, or name the axes that it has: `Tensor::<_, (Batch, Seq, Hidden)>::new(…)`",
    );
    shows(
        Tensor::<Dynamic, (Batch, Seq), Int>::new(zeros.clone()),
        "expected entries of kind `Int`, found `f32`",
        "Tensor::<Dynamic, (Batch, Seq), Int>::new(zeros.clone()),",
        "Tensor::",
        "convert it first: `.to_dtype(DType::I64)?`",
    );
}

#[test]
fn calls_outside_of_a_trace_are_shown_too() {
    let model = tiny_llama();
    let cache = trace!(model, PROMPT.to_vec(), { model.cache(&Keep::outputs().of(["layers.*.mlp"])) }).unwrap();
    shows(
        cache.get("layers.0.mpl.output"),
        "`layers.0.mpl.output` was not kept",
        "cache.get(\"layers.0.mpl.output\"),",
        "get(",
        "there is `layers.0.mlp.output`",
    );
    shows(
        integrated_gradients(model, PROMPT.to_vec(), 0, |logits| logits.pick(Vocab, 3)),
        "integrated gradients need at least one step",
        "integrated_gradients(model, PROMPT.to_vec(), 0, |logits| logits.pick(Vocab, 3)),",
        "integrated_gradients",
        "32 steps are usual",
    );
    shows(
        integrated_gradients(model, Vec::<String>::new(), 4, |logits| logits.pick(Vocab, 3)),
        "invoke 0 has no prompt",
        "integrated_gradients(model, Vec::<String>::new(), 4, |logits| logits.pick(Vocab, 3)),",
        "integrated_gradients",
        "give it a prompt: `invoke!(\"…\", { … })`; a list of prompts needs at least one",
    );
    shows(
        integrated_gradients(model, vec![64], 4, |logits| logits.pick(Vocab, 3)),
        "token 64 of prompt 0, invoke 0, is not in the vocabulary of `Dynamic` (0 to 63)",
        "integrated_gradients(model, vec![64], 4, |logits| logits.pick(Vocab, 3)),",
        "integrated_gradients",
        "take ids from this model's own tokenizer, `model.tokenizer().encode(…)`",
    );
    shows(
        sweep!(
            model,
            PROMPT.to_vec(),
            for layer in Vec::<usize>::new() {
                model.layers[layer].output.mean_all()
            }
        ),
        "the sweep has no points",
        "model.layers[layer].output.mean_all()",
        "model",
        "give `for … in` at least one point",
    );
}

#[test]
fn a_wrong_folder_is_shown_once_with_the_line_that_loads_it_and_what_to_write() {
    let main = || -> nnsight::Result<()> {
        let model = Llama::<SmolLm2_135M>::load("./no-such-folder")?;
        println!("{model}");
        Ok(())
    };
    let help = format!("check the path: it starts at the folder that the program runs in, `{}`", std::env::current_dir().unwrap().display());
    shows(
        main(),
        "./no-such-folder: No such file or directory (os error 2)",
        "let model = Llama::<SmolLm2_135M>::load(\"./no-such-folder\")?;",
        "Llama::<SmolLm2_135M>::load",
        &help,
    );
    let unknown = || -> nnsight::Result<()> {
        Gpt2::<Dynamic>::load("no-such-model")?;
        Ok(())
    };
    let shown = format!("{:?}", unknown().unwrap_err());
    assert!(shown.starts_with("there is no model `no-such-model`: the built-in names are `smollm2-135m`; "), "{shown}");
    let once = [file!(), "Gpt2::<Dynamic>::load(\"no-such-model\")?;", "^", "a path begins with `./` or `/`"];
    assert_eq!(once.map(|part| shown.matches(part).count()), [1; 4], "{shown}");
}

#[test]
fn without_a_line_there_are_the_sentence_and_the_advice() {
    let error = Graph::from_json("{\"version\": 1}").unwrap_err();
    assert_eq!(
        format!("{error:?}"),
        "the graph has version 1; this program reads version 3\n = help: record the graph again with this version of nnsight, and store that"
    );
}

#[test]
fn of_what_candle_says_there_is_one_line_and_the_error_itself_is_kept() {
    let model = tiny_llama();
    let error = trace!(model, PROMPT.to_vec(), {
        model.layers[0].output.apply((Batch, Hidden), |h| {
            let inner = candle_core::Error::Msg(format!("it failed for\n{h}"));
            let backtrace = Box::new(std::backtrace::Backtrace::force_capture());
            Err(candle_core::Error::WithBacktrace { inner: Box::new(inner), backtrace })
        })
    })
    .unwrap_err();
    assert_eq!(error.sentence(), "`apply` failed: it failed for");
    assert!(!format!("{error} {error:?}").contains("Tensor["), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("candle"), "{error:?}");
    assert!(error.source().is_some_and(|source| source.is::<candle_core::Error>()));
    let TraceError::Compute { problem, .. } = error else { panic!("another error") };
    assert!(matches!(problem.downcast_ref(), Some(candle_core::Error::WithBacktrace { .. })));
}

#[test]
fn a_place_that_came_with_a_graph_names_no_file_to_be_read() {
    let model = tiny_llama();
    let mut graph = nnsight::graph!(model, PROMPT.to_vec(), { model.layers[0].output.at(Seq, 6) }).unwrap();
    for source in &mut graph.sources {
        source.file = folder("Cargo.toml").display().to_string().into();
        source.line = 1;
    }
    let error = nnsight::trace::Traceable::execute(&model, graph).unwrap_err();
    let report = format!("{error:?}");
    assert!(report.contains("Cargo.toml:1:") && !report.contains("[workspace]"), "{report}");
}

#[test]
fn errors_are_small_enough_to_be_returned_everywhere() {
    // From 128 bytes on, clippy warns in every function of a user's that returns one.
    assert!(size_of::<TraceError>() < 128 && size_of::<nnsight::Error>() < 128);
}

/// Where the panic of a function is said to be, and what it says.
fn panic_of(function: impl FnOnce()) -> String {
    use std::cell::RefCell;
    use std::sync::Once;
    thread_local! { static SEEN: RefCell<Option<String>> = const { RefCell::new(None) } }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let watched = SEEN.with(|seen| seen.borrow_mut().as_mut().map(|seen| *seen = info.to_string()).is_some());
            if !watched {
                before(info);
            }
        }));
    });
    SEEN.with(|seen| *seen.borrow_mut() = Some(String::new()));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(function));
    let seen = SEEN.with(|seen| seen.borrow_mut().take()).unwrap_or_default();
    assert!(result.is_err(), "it should have panicked");
    seen
}

#[test]
fn an_index_that_panics_names_the_line_the_axis_and_its_size() {
    let model = tiny_llama();
    let h = trace!(model, PROMPT.to_vec(), { model.layers[0].output }).unwrap();
    let (line, seen) = (line!(), panic_of(|| drop(h.at(Seq, 10))));
    assert!(seen.contains(&format!("{}:{line}:", file!())), "{seen}");
    assert!(seen.contains("index 10 is out of range for the axis Seq of size 6"), "{seen}");
    let (line, seen) = (line!(), panic_of(|| _ = model.tokenizer()));
    assert!(seen.contains(&format!("{}:{line}:", file!())), "{seen}");
}
