//! Gemma 3 270M with real weights, as transformers computes them of the same file. `tests/reference/fetch_gemma3` fetches it; without, nothing is
//! tested here.

use nnsight::prelude::*;

fn model() -> Option<Gemma3<Gemma3_270M>> {
    let named = std::env::var_os("NNSIGHT_GEMMA3").map(std::path::PathBuf::from);
    let file = named.or_else(|| Some(std::env::home_dir()?.join(".cache/nnsight/gemma3")))?.join("gemma-3-270m-q4_k_m.gguf");
    file.exists().then(|| Gemma3::load(Source::from(file.as_path())).unwrap())
}

#[test]
fn real_weights_say_what_they_say_in_transformers() {
    let Some(model) = model() else { return };
    let tokenizer = model.tokenizer();
    assert_eq!(tokenizer.encode("The opposite of hot is").unwrap(), [2, 818, 11688, 529, 3425, 563]);
    for (prompt, next, probability) in [
        ("When Mary and John went to the store, John gave a drink to", " Mary", 0.854),
        ("The opposite of hot is", " cold", 0.594),
        ("one, two, three, four,", " five", 0.702),
    ] {
        let logits = trace!(model, prompt, { model.lm_head.output.at(Seq, -1) }).unwrap();
        let wanted = tokenizer.token(next).unwrap();
        let probabilities = nnsight::kernels::softmax(&logits).unwrap().get(0).unwrap().to_vec1::<f32>().unwrap();
        let found = probabilities[wanted as usize];
        assert!((found - probability).abs() < 0.002, "{prompt:?}: {found}");
        assert!(probabilities.iter().all(|&other| other <= found));
    }
}

#[test]
fn a_prompt_longer_than_the_window_is_continued() {
    let Some(model) = model() else { return };
    // 600 tokens: the layers with a window of 512 no longer see the first.
    let mut prompt = model.tokenizer().encode(&"one, two, three, four, five, six, ".repeat(60)).unwrap();
    prompt.truncate(600);
    let (tokens, last) =
        generate!(model, prompt.clone(), max_new_tokens = 3, { (model.tokens(), model.step(2).lm_head.output.at(Seq, -1)) }).unwrap();
    let tokens = tokens.flatten_all().unwrap().to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap();
    prompt.extend(&tokens[..2]);
    let (whole, pattern) = trace!(model, prompt, { (model.lm_head.output.at(Seq, -1), model.layers[0].self_attn.pattern.at(Query, -1)) }).unwrap();
    assert!(crate::shared::relative(&last, &whole) < 1e-4);
    let seen = crate::shared::numbers(&pattern.get(0).unwrap().get(0).unwrap());
    assert_eq!((seen.len(), seen.iter().position(|&weight| weight > 0.0)), (602, Some(602 - 512)));
}
