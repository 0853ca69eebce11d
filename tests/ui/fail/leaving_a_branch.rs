use nnsight::prelude::*;

fn run(model: &Llama<SmolLm2_135M>, seen: &mut Vec<String>) -> nnsight::Result<()> {
    trace!(model, "x", {
        let h = model.layers[3].output;
        if h.mean_all().gt(0.0) {
            println!("it is positive");
            return Ok(());
        }
        if h.mean_all().gt(1.0) {
            let number = "3".parse::<f64>()?;
            seen.push(number.to_string());
            assert!(number > 2.0);
        }
        h
    })?;
    Ok(())
}

fn main() {}
