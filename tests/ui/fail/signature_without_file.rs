use nnsight::prelude::*;

nnsight::signature!(pub Missing: Llama = "configs/missing.json");

fn main() {}
