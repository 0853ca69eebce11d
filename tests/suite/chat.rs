//! Conversations as prompts, and checkpoints whose tokenizer or template cannot be used.

use nnsight::candle_core::quantized::{GgmlDType, gguf_file};
use nnsight::models::Tokenizer;
use nnsight::prelude::*;
use serde_json::json;

use crate::loading::as_gguf;
use crate::shared::{difference, folder, identical, smollm2};

const QUESTION: &str = "What is the capital of France?";

/// What transformers makes of the default model's template.
const TEXT: &str = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
                    <|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n";
const IDS: [u32; 37] = [
    1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182, 2, 198, 1, 4093, 198, 1780, 314, 260,
    3575, 282, 4649, 47, 2, 198, 1, 520, 9531, 198,
];

/// A tokenizer with a chat template, from the reference's that is like Llama 3's.
fn with_template(template: &str) -> Tokenizer {
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder("tests/reference/tokenizers/llama3/tokenizer.json"), copy.path().join("tokenizer.json")).unwrap();
    std::fs::write(copy.path().join("chat_template.jinja"), template).unwrap();
    Tokenizer::from_file(&copy.path().join("tokenizer.json")).unwrap()
}

fn refusal(template: &str, chat: &Chat) -> String {
    with_template(template).chat_text(chat).unwrap_err().to_string()
}

#[test]
fn the_default_model_splits_text_as_its_original() {
    let ids = smollm2().tokenizer().encode("12345 it's 日本語 <|im_end|>\n\nx").unwrap();
    assert_eq!(ids, [33, 34, 35, 36, 37, 357, 506, 17097, 241, 115, 40993, 179, 120, 248, 216, 2, 198, 198, 104]);
}

#[test]
fn a_conversation_is_a_prompt() {
    let model = smollm2();
    let chat = Chat::new([Message::user(QUESTION)]);
    assert_eq!(model.tokenizer().chat_text(&chat).unwrap(), TEXT);
    assert_eq!(model.tokenizer().encode_chat(&chat).unwrap(), IDS);
    // Written out, as pairs, and beside a text.
    let tokens = generate!(model, Prompt::chat([("user", QUESTION)]), max_new_tokens = 8, { model.tokens() }).unwrap();
    let same = generate!(model, TEXT, max_new_tokens = 8, { model.tokens() }).unwrap();
    assert_eq!(tokens.to_vec2::<i64>().unwrap(), same.to_vec2::<i64>().unwrap());
    assert!(model.tokenizer().decode_rows(&tokens).unwrap()[0].contains("Paris"));
    let (a, b) = trace!(model, {
        let a = invoke!(&chat, { model.lm_head.output.at(Seq, -1) });
        let b = invoke!(QUESTION, { model.lm_head.output.at(Seq, -1) });
        (a, b)
    })
    .unwrap();
    assert!(difference(&a, &trace!(model, IDS.to_vec(), { model.lm_head.output.at(Seq, -1) }).unwrap()) < 1e-3);
    assert!(difference(&b, &a) > 1.0);
    assert_eq!(scan!(model, vec![chat.clone(), chat], { model.layers[0].output }).unwrap().shapes(), [Some(vec![2, 37, 576])]);
}

#[test]
fn a_conversation_stays_data_in_a_graph() {
    let model = smollm2();
    let chat = Chat::new([Message::user(QUESTION).with("name", json!("Ann")), Message::assistant("It is")])
        .ending(ChatEnd::Continued)
        .with("tools", json!([]));
    let graph = nnsight::graph!(model, chat.clone(), { model.lm_head.output.at(Seq, -1) }).unwrap();
    assert!(graph.to_string().contains(r#"{"role":"user","content":"What is the capital of France?","fields":[["name","\"Ann\""]]}"#), "{graph}");
    assert_eq!(graph.invokes[0].inputs, [Prompt::Chat(chat).into()]);
    for read in [Graph::from_json(&graph.to_json().unwrap()).unwrap(), Graph::from_msgpack(&graph.to_msgpack().unwrap()).unwrap()] {
        assert_eq!(read, graph);
    }
}

#[test]
fn equal_conversations_are_run_once() {
    let model = smollm2();
    let experiment = |other: &'static str| {
        nnsight::graph!(model, {
            let a = invoke!(Prompt::chat([("user", QUESTION)]), { model.lm_head.output.at(Seq, -1) });
            let b = invoke!(Prompt::chat([("user", other)]), {
                model.layers[28].mlp.output = model.layers[28].mlp.output * 0.0;
                model.lm_head.output.at(Seq, -1)
            });
            (a, b)
        })
        .unwrap()
    };
    let [shared, apart] = [QUESTION, "What is the capital of Poland?"].map(|other| model.explain(&experiment(other)).unwrap().to_string());
    assert_ne!(shared, apart);
    let by_ids = nnsight::graph!(model, {
        let a = invoke!(IDS.to_vec(), { model.lm_head.output.at(Seq, -1) });
        let b = invoke!(IDS.to_vec(), {
            model.layers[28].mlp.output = model.layers[28].mlp.output * 0.0;
            model.lm_head.output.at(Seq, -1)
        });
        (a, b)
    })
    .unwrap();
    assert_eq!(shared, model.explain(&by_ids).unwrap().to_string());
}

#[test]
fn what_a_template_cannot_write_is_an_error() {
    let chat = Chat::new([Message::user(QUESTION)]);
    let error = refusal("{{ raise_exception('only system, please') }}", &chat);
    assert!(error.contains("only system, please") && error.contains("chat template"), "{error}");
    let error = refusal("{% if %}", &chat);
    assert!(error.contains("chat template") && error.contains("syntax error"), "{error}");
    let error = refusal("{{ messages[0].content }}", &chat.clone().with("date", "1 July"));
    assert!(error.contains("`date`") && error.contains("1 July") && error.contains("not JSON"), "{error}");
    let error = refusal("{{ messages[0].content }}", &Chat::default());
    assert!(error.contains("no message"), "{error}");
    // A template that would never end.
    let error =
        refusal("{% for a in range(90000) %}{% for b in range(90000) %}{% for c in range(90000) %}{% endfor %}{% endfor %}{% endfor %}", &chat);
    assert!(error.contains("out of fuel"), "{error}");
    // Values that would take more stack or memory to be written than there is.
    for nested in ["[ns.x]", "[ns.x, ns.x]"] {
        for written in ["ns.x", "ns.x | tojson"] {
            let template =
                format!("{{% set ns = namespace(x=[]) %}}{{% for i in range(2000) %}}{{% set ns.x = {nested} %}}{{% endfor %}}{{{{ {written} }}}}");
            let error = refusal(&template, &chat);
            assert!(error.contains("nested more than 100 times"), "{error}");
        }
    }
    let error = refusal("{{ missing.field }}", &chat);
    assert!(error.contains("undefined"), "{error}");
    let error = crate::shared::tiny_llama().try_tokenizer().is_none();
    assert!(error);
    // No template at all.
    let plain = Tokenizer::from_file(&folder("tests/reference/tokenizers/gpt2/tokenizer.json")).unwrap();
    let error = plain.chat_text(&chat).unwrap_err().to_string();
    assert!(error.contains("no chat template") && error.contains("as text"), "{error}");
    let model = crate::shared::tiny_llama();
    let error = trace!(model, &chat, { model.lm_head.output }).unwrap_err().to_string();
    assert!(error.contains("no tokenizer") && error.contains("token ids"), "{error}");
}

#[test]
fn templates_know_the_date() {
    let text = with_template("{{ strftime_now('%Y') }}").chat_text(&Chat::new([Message::user("")])).unwrap();
    assert!(text.parse::<i32>().unwrap() >= 2024, "{text}");
    let error = refusal("{{ strftime_now('%!') }}", &Chat::new([Message::user("")]));
    assert!(error.contains("chat template"), "{error}");
}

#[test]
fn templates_of_their_own_file_come_first() {
    let copy = tempfile::tempdir().unwrap();
    let file = copy.path().join("tokenizer.json");
    std::fs::copy(folder("tests/reference/tokenizers/llama3/tokenizer.json"), &file).unwrap();
    std::fs::write(copy.path().join("tokenizer_config.json"), json!({ "chat_template": "config" }).to_string()).unwrap();
    let chat = Chat::new([Message::user(QUESTION)]);
    let text = |chat: &Chat| Tokenizer::from_file(&file).unwrap().chat_text(chat).unwrap();
    assert_eq!(text(&chat), "config");
    std::fs::write(copy.path().join("chat_template.jinja"), "file\n").unwrap();
    assert_eq!(text(&chat), "file");
    std::fs::create_dir(copy.path().join("additional_chat_templates")).unwrap();
    std::fs::write(copy.path().join("additional_chat_templates/tool_use.jinja"), "tools").unwrap();
    assert_eq!([text(&chat), text(&chat.with("tools", json!([{ "name": "look" }])))], ["file", "tools"]);
    std::fs::write(copy.path().join("tokenizer_config.json"), "{").unwrap();
    let error = Tokenizer::from_file(&file).unwrap_err().to_string();
    assert!(error.contains("tokenizer_config.json") && error.contains("JSON"), "{error}");
}

#[test]
fn a_converted_checkpoint_keeps_its_template() {
    let copy = tempfile::tempdir().unwrap();
    smollm2().tokenizer().save(&copy.path().join("tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::from_file(&copy.path().join("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.encode_chat(&Chat::new([Message::user(QUESTION)])).unwrap(), IDS);
}

/// The tiny Llama as a GGUF file whose tokenizer is this.
fn gguf(tokenizer: &[(&str, gguf_file::Value)]) -> Llama<Dynamic> {
    use gguf_file::Value;
    let mut metadata = vec![("general.architecture", Value::String("llama".into())), ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5))];
    let sizes = [
        ("llama.block_count", 3),
        ("llama.context_length", 64),
        ("llama.embedding_length", 32),
        ("llama.feed_forward_length", 48),
        ("llama.attention.head_count", 4),
        ("llama.attention.head_count_kv", 2),
    ];
    metadata.extend(sizes.map(|(name, size)| (name, Value::U32(size))));
    metadata.extend(tokenizer.iter().map(|(name, value)| (*name, value.clone())));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tiny.gguf");
    let metadata = metadata.iter().map(|(name, value)| (*name, value)).collect::<Vec<_>>();
    let tensors = as_gguf(GgmlDType::F32);
    let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect::<Vec<_>>();
    gguf_file::write(&mut std::fs::File::create(&file).unwrap(), &metadata, &tensors).unwrap();
    Llama::load(file.as_path()).unwrap()
}

#[test]
fn a_gguf_file_whose_tokenizer_is_not_known_runs_on_token_ids() {
    use gguf_file::Value;
    let text = |text: &str| Value::String(text.into());
    let texts = |texts: &[&str]| Value::Array(texts.iter().map(|entry| text(entry)).collect());
    let all = |model: &str, pre: &str| {
        vec![
            ("tokenizer.ggml.model", text(model)),
            ("tokenizer.ggml.pre", text(pre)),
            ("tokenizer.ggml.tokens", texts(&["a", "b", "ab"])),
            ("tokenizer.ggml.merges", texts(&["a b"])),
        ]
    };
    let with = |mut metadata: Vec<(&'static str, Value)>, key: &'static str, value: Value| {
        metadata.retain(|(name, _)| *name != key);
        metadata.push((key, value));
        metadata
    };
    let cases = [
        (vec![], "no tokenizer"),
        (all("none", ""), "no tokenizer"),
        (all("bert", ""), "`bert`"),
        (all("gpt2", "deepseek-llm"), "`deepseek-llm`"),
        (all("gpt2", "a \"new\" one"), "`a \"new\" one`"),
        (with(all("gpt2", "llama-bpe"), "tokenizer.ggml.bos_token_id", Value::U32(3)), "`tokenizer.ggml.bos_token_id` is 3, and there are 3 tokens"),
        (with(all("gpt2", "gpt-2"), "tokenizer.ggml.add_bos_token", Value::Bool(true)), "no `tokenizer.ggml.bos_token_id`"),
        (with(all("gpt2", "gpt-2"), "tokenizer.ggml.token_type", Value::Array(vec![Value::I32(1)])), "3 tokens and 1 kinds"),
        (with(all("gpt2", "gpt-2"), "tokenizer.ggml.merges", texts(&["ab"])), "merge \"ab\" is not a pair"),
        (with(all("gpt2", "gpt-2"), "tokenizer.ggml.tokens", text("abc")), "`tokenizer.ggml.tokens` is not a list"),
    ];
    let plain = gguf(&all("gpt2", "gpt-2"));
    assert_eq!(plain.tokenizer().encode("aba").unwrap(), [2, 0]);
    let ids = vec![3, 17, 5];
    let expected = trace!(plain, &ids, { plain.lm_head.output }).unwrap();
    for (metadata, says) in cases {
        let model = gguf(&metadata);
        assert!(identical(&trace!(model, &ids, { model.lm_head.output }).unwrap(), &expected), "{says}");
        assert_eq!(generate!(model, &ids, max_new_tokens = 2, { model.tokens() }).unwrap().dims(), [1, 2]);
        assert!(model.try_tokenizer().is_none());
        let error = trace!(model, "text", { model.lm_head.output }).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("give token ids instead of text"), "{says}: {error}");
        let error = trace!(model, Prompt::chat([("user", "text")]), { model.lm_head.output }).unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
}
