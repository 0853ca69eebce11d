//! Sentence embeddings (Reimers and Gurevych 2019): the mean of a BERT's hidden states, and how alike sentences are by them.
//!
//! `cargo run --release --example sentence_embeddings [-- FOLDER]`, of all-MiniLM-L6-v2

use nnsight::prelude::*;

const SENTENCES: [&str; 5] = [
    "A cat sleeps on the sofa.",
    "Kittens!",
    "On the couch lies a dozing feline, and nothing in the world will wake it before noon.",
    "The central bank raised interest rates by half a percentage point.",
    "Borrowing money becomes more expensive.",
];

fn main() -> nnsight::Result<()> {
    let source = std::env::args().nth(1).unwrap_or("sentence-transformers/all-MiniLM-L6-v2".into());
    let model = Bert::<AllMiniLm_L6_V2>::load(source.as_str())?;

    // Each sentence has a mean over its own tokens; those of about one length are run side by side.
    let cosines = trace!(model, {
        let embeddings = stack(&SENTENCES.map(|sentence| {
            invoke!(sentence, {
                let mean = model.layers[-1].output.mean(Seq).at(Batch, 0);
                mean / mean.norm_keepdim(Hidden)
            })
        }));
        embeddings.matmul(embeddings.rename(Stacked, Batch).transpose(Batch, Hidden))
    })?;

    for (sentence, row) in SENTENCES.iter().zip(cosines.to_vec2::<f32>()?) {
        row.iter().for_each(|cosine| print!("{cosine:6.2}"));
        println!("  {sentence}");
    }
    Ok(())
}
