//! After a trace nothing of it stays allocated, also where it failed or stopped early. Alone in its binary, since it measures the process.

use nnsight::prelude::*;

/// The resident memory of this process in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("the system tells it");
    pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}

fn round(model: &Llama<Dynamic>, round: u32) {
    let prompt = (0..40).map(|token| (token * 7 + round) % 64).collect::<Vec<_>>();
    // A whole run, of which much is saved.
    let cache = trace!(model, prompt.clone(), {
        model.layers[1].mlp.output *= 0.5;
        model.cache(&Keep::both())
    });
    assert_eq!(cache.unwrap().len(), 78);
    // One that fails before it runs, and one that fails while it runs.
    let refused = trace!(model, prompt.clone(), {
        model.layers[2].output = 0.0;
        model.layers[1].output
    });
    assert!(refused.is_err());
    let failed = trace!(model, prompt.clone(), {
        let h = model.layers[1].output.apply((Batch, Seq, Hidden), |h| h.narrow(1, 0, 100));
        model.layers[2].input = h;
        model.lm_head.output
    });
    assert!(failed.is_err());
    // One that is stopped, one with gradients, one that goes on.
    let stopped = trace!(model, prompt.clone(), {
        let h = model.layers[0].output.value();
        stop!(model.layers[0].output);
        h
    });
    assert!(stopped.is_ok());
    let gradient = trace!(model, prompt.clone(), {
        let loss = model.lm_head.output.at(Seq, -1).pick(Vocab, 3);
        model.embed_tokens.output.grad(loss)
    });
    assert!(gradient.is_ok());
    let tokens = generate!(model, prompt, max_new_tokens = 4, {
        for step in model.steps(..) {
            step.layers[1].output *= 1.01;
        }
        model.tokens()
    });
    assert!(tokens.is_ok());
}

/// Loads twenty models one after the other, and traces each.
fn load_and_trace() {
    for index in 0..20 {
        let other = Llama::<Dynamic>::load(Source::from(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/llama"))).unwrap();
        round(&other, index);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_thousand_traces_leave_the_memory_as_it_was() {
    let model = Llama::<Dynamic>::load(Source::from(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/llama"))).unwrap();
    // Six traces a round; the first rounds fill what allocators and thread pools keep for themselves.
    (0..100).for_each(|index| round(&model, index));
    load_and_trace();
    let before = resident();
    (0..170).for_each(|index| round(&model, index));
    let after = resident();
    // A model and what it returned go with their owners.
    load_and_trace();
    let after = after.max(resident());
    println!("{before} bytes before, {after} after 1,020 traces");
    assert!(after <= before + before / 100, "{before} bytes before, {after} after");
}
