//! Llama gives what candle-transformers' Llama gives on the same weights.

use nnsight::prelude::*;
use nnsight_benches::Peer;

#[test]
fn the_same_logits() {
    let folder = tempfile::tempdir().unwrap();
    Llama::<SmolLm2_135M>::convert(Source::default(), folder.path()).unwrap();
    let peer = Peer::load(folder.path()).unwrap();
    let ours = Llama::<SmolLm2_135M>::load(folder.path()).unwrap();
    for prompt in ["The", "The Eiffel Tower is in the city of", "When John and Mary went to the store, John gave a drink to"] {
        let tokens = ours.tokenizer().encode(prompt).unwrap();
        let expected = peer.next_logits(&tokens).unwrap();
        for found in [
            ours.next_logits(&[Prompt::Tokens(tokens.clone())]).unwrap(),
            trace!(ours, tokens.clone(), { ours.lm_head.output.at(Seq, -1) }).unwrap().into_inner(),
        ] {
            let difference = (&found - &expected).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(difference < 1e-4, "{prompt:?}: {difference}");
        }
    }
}
