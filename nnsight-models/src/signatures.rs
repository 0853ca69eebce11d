//! Signatures of public checkpoints, each from its own `config.json`.

use nnsight_macros::signature;

use crate::architectures::{Bert, Gemma2, Gemma3, Gpt2, GptNeoX, Llama, Mistral, Mixtral, Olmo2, Qwen2, Qwen3, Qwen3Moe};

signature!(
    /// GPT-2, 124 million parameters.
    pub Gpt2Small: Gpt2 = "configs/gpt2.json"
);
signature!(
    /// GPT-2, 355 million parameters.
    pub Gpt2Medium: Gpt2 = "configs/gpt2-medium.json"
);
signature!(
    /// GPT-2, 774 million parameters.
    pub Gpt2Large: Gpt2 = "configs/gpt2-large.json"
);
signature!(
    /// GPT-2, 1.5 billion parameters.
    pub Gpt2Xl: Gpt2 = "configs/gpt2-xl.json"
);
signature!(
    /// SmolLM2, 135 million parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub SmolLm2_135M: Llama = "configs/smollm2-135m.json"
);
signature!(
    /// SmolLM2, 360 million parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub SmolLm2_360M: Llama = "configs/smollm2-360m.json"
);
signature!(
    /// SmolLM2, 1.7 billion parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub SmolLm2_1_7B: Llama = "configs/smollm2-1.7b.json"
);
signature!(
    /// Llama 3.1, 8 billion parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub Llama3_1_8B: Llama = "configs/llama-3.1-8b.json"
);
signature!(
    /// Llama 3.1, 70 billion parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub Llama3_1_70B: Llama = "configs/llama-3.1-70b.json"
);
signature!(
    /// Llama 3.1, 405 billion parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub Llama3_1_405B: Llama = "configs/llama-3.1-405b.json"
);
signature!(
    /// Llama 3.2, 1 billion parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub Llama3_2_1B: Llama = "configs/llama-3.2-1b.json"
);
signature!(
    /// Llama 3.2, 3 billion parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub Llama3_2_3B: Llama = "configs/llama-3.2-3b.json"
);
signature!(
    /// TinyLlama, 1.1 billion parameters.
    #[allow(non_camel_case_types)]
    pub TinyLlama_1_1B: Llama = "configs/tinyllama-1.1b.json"
);
signature!(
    /// Qwen3, 0.6 billion parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub Qwen3_0_6B: Qwen3 = "configs/qwen3-0.6b.json"
);
signature!(
    /// Qwen3, 4 billion parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub Qwen3_4B: Qwen3 = "configs/qwen3-4b.json"
);
signature!(
    /// Qwen3, 8 billion parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub Qwen3_8B: Qwen3 = "configs/qwen3-8b.json"
);
signature!(
    /// Gemma 3, 270 million parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub Gemma3_270M: Gemma3 = "configs/gemma-3-270m.json"
);
signature!(
    /// Gemma 3, 1 billion parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub Gemma3_1B: Gemma3 = "configs/gemma-3-1b.json"
);
signature!(
    /// OLMo 2, 1 billion parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub Olmo2_1B: Olmo2 = "configs/olmo-2-1b.json"
);
signature!(
    /// OLMo 2, 7 billion parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub Olmo2_7B: Olmo2 = "configs/olmo-2-7b.json"
);
signature!(
    /// Gemma 2, 2 billion parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub Gemma2_2B: Gemma2 = "configs/gemma-2-2b.json"
);
signature!(
    /// Gemma 2, 9 billion parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub Gemma2_9B: Gemma2 = "configs/gemma-2-9b.json"
);
signature!(
    /// Qwen3-MoE, 30 billion parameters, of which 3 billion are used for a position, base or instruct.
    #[allow(non_camel_case_types)]
    pub Qwen3_30B_A3B: Qwen3Moe = "configs/qwen3-30b-a3b.json"
);
signature!(
    /// Mixtral, 8 experts of 7 billion parameters, base or instruct.
    #[allow(non_camel_case_types)]
    pub Mixtral_8x7B: Mixtral = "configs/mixtral-8x7b.json"
);
signature!(
    /// Qwen2.5, 0.5 billion parameters, base.
    #[allow(non_camel_case_types)]
    pub Qwen2_5_0_5B: Qwen2 = "configs/qwen2.5-0.5b.json"
);
signature!(
    /// Qwen2.5, 1.5 billion parameters, base.
    #[allow(non_camel_case_types)]
    pub Qwen2_5_1_5B: Qwen2 = "configs/qwen2.5-1.5b.json"
);
signature!(
    /// Qwen2.5, 7 billion parameters, base.
    #[allow(non_camel_case_types)]
    pub Qwen2_5_7B: Qwen2 = "configs/qwen2.5-7b.json"
);
signature!(
    /// Mistral 7B v0.1.
    #[allow(non_camel_case_types)]
    pub Mistral_7B_V0_1: Mistral = "configs/mistral-7b-v0.1.json"
);
signature!(
    /// Pythia, 70 million parameters, also of the deduplicated Pile.
    #[allow(non_camel_case_types)]
    pub Pythia_70M: GptNeoX = "configs/pythia-70m.json"
);
signature!(
    /// Pythia, 160 million parameters, also of the deduplicated Pile.
    #[allow(non_camel_case_types)]
    pub Pythia_160M: GptNeoX = "configs/pythia-160m.json"
);
signature!(
    /// Pythia, 410 million parameters, also of the deduplicated Pile.
    #[allow(non_camel_case_types)]
    pub Pythia_410M: GptNeoX = "configs/pythia-410m.json"
);
signature!(
    /// Pythia, 1.4 billion parameters, also of the deduplicated Pile.
    #[allow(non_camel_case_types)]
    pub Pythia_1_4B: GptNeoX = "configs/pythia-1.4b.json"
);
signature!(
    /// Pythia, 2.8 billion parameters, also of the deduplicated Pile.
    #[allow(non_camel_case_types)]
    pub Pythia_2_8B: GptNeoX = "configs/pythia-2.8b.json"
);
signature!(
    /// all-MiniLM-L6-v2, sentence embeddings of 23 million parameters.
    #[allow(non_camel_case_types)]
    pub AllMiniLm_L6_V2: Bert = "configs/all-minilm-l6-v2.json"
);
