//! Chat templates, rendered as `apply_chat_template` of Hugging Face's transformers renders them.

use jiff::Zoned;
use jiff::fmt::strtime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, ErrorKind, State, Value, escape_formatter};
use nnsight_lm::{Chat, ChatEnd, Message};
use serde_json::json;

use super::json::Python;
use crate::{Error, Result};

/// How much a template may compute, which comes from a stranger's file: about a million steps, a step for each 64 bytes of text included.
const FUEL: u64 = 1_000_000;

/// The stack that a template is run on. As many steps can nest a value so deeply that freeing it takes more than a usual stack.
const STACK: usize = 256 << 20;

/// How deeply a value that is written out may be nested, and how many entries it may have.
const DEEPEST: usize = 100;
const MOST_ENTRIES: usize = 1_000_000;

/// By how many spaces `tojson` indents at most.
const MOST_INDENT: usize = 64;

/// What is appended to a message to find its end in the text.
const END_OF_MESSAGE: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// The fields that hold an assistant's reasoning; templates read any of them.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// The chat templates of a checkpoint, and the special tokens that they write.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChatTemplates {
    /// By name; most checkpoints have one, `default`.
    templates: Vec<(String, String)>,
    /// `bos_token` and the like, with their texts.
    special: Vec<(String, String)>,
}

type Fields = Vec<(String, Value)>;

impl ChatTemplates {
    /// From templates and special tokens by name.
    pub fn new(templates: Vec<(String, String)>, special: Vec<(String, String)>) -> Self {
        ChatTemplates { templates, special }
    }

    /// What a `tokenizer_config.json` says of them, if there is anything to say.
    pub fn to_config(&self) -> Option<serde_json::Value> {
        let mut config = self.special.iter().map(|(name, token)| (name.clone(), json!(token))).collect::<serde_json::Map<_, _>>();
        match self.templates.as_slice() {
            [] => {}
            [(name, template)] if name == "default" => drop(config.insert("chat_template".into(), json!(template))),
            several => {
                let several = several.iter().map(|(name, template)| json!({ "name": name, "template": template })).collect();
                config.insert("chat_template".into(), several);
            }
        }
        (!config.is_empty()).then_some(config.into())
    }

    /// The text of a conversation.
    pub fn render(&self, chat: &Chat) -> Result<String> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || self.render_here(chat)).map_err(wrong)?;
            thread.join().unwrap_or_else(|_| Err(wrong("running it failed")))
        })
    }

    fn render_here(&self, chat: &Chat) -> Result<String> {
        if chat.messages.is_empty() {
            return Err(wrong("the conversation has no message; a chat needs at least one"));
        }
        let variables = parse(&chat.variables)?;
        let mut messages = chat.messages.iter().map(fields).collect::<Result<Vec<_>>>()?;
        let last = match (chat.end, messages.last_mut()) {
            (ChatEnd::Continued, Some(message)) => Some(mark_end(message)?),
            _ => None,
        };
        let template = self.choose(variables.iter().any(|(name, value)| name == "tools" && !value.is_none()))?;
        let text = self.run(template, messages, variables, chat.end == ChatEnd::Answer)?;
        match last {
            Some(message) => cut_at_end(text, &message),
            None => Ok(text),
        }
    }

    fn choose(&self, has_tools: bool) -> Result<&str> {
        let find = |wanted: &str| self.templates.iter().find(|(name, _)| name == wanted).map(|(_, template)| template.as_str());
        match find("tool_use").filter(|_| has_tools).or(find("default")) {
            Some(template) => Ok(template),
            None => Err(Error::NoChatTemplate { names: self.templates.iter().map(|(name, _)| name.clone()).collect() }),
        }
    }

    fn run(&self, template: &str, messages: Vec<Fields>, variables: Fields, asks_for_answer: bool) -> Result<String> {
        let messages = messages.into_iter().map(Value::from_pairs).collect::<Vec<_>>();
        let mut context = vec![
            ("messages".to_string(), Value::from(messages)),
            ("tools".to_string(), Value::from(())),
            ("documents".to_string(), Value::from(())),
            ("add_generation_prompt".to_string(), Value::from(asks_for_answer)),
        ];
        context.extend(self.special.iter().map(|(name, token)| (name.clone(), Value::from(token.as_str()))));
        for (name, value) in variables {
            context.retain(|(taken, _)| *taken != name);
            context.push((name, value));
        }
        let source = without_generation_tags(template);
        let environment = environment().map_err(wrong)?;
        let template = environment.template_from_named_str("chat_template", &source).map_err(wrong)?;
        template.render(Value::from_pairs(context)).map_err(wrong)
    }
}

fn wrong(problem: impl std::fmt::Display) -> Error {
    Error::ChatTemplate { problem: problem.to_string() }
}

fn parse(pairs: &[(String, String)]) -> Result<Fields> {
    let one = |(name, json): &(String, String)| match serde_json::from_str(json) {
        Ok(value) => Ok((name.clone(), value)),
        Err(error) => Err(wrong(format!("`{name}` is given as {json:?}, which is not JSON: {error}; text is written in quotes, or as `json!(…)`"))),
    };
    pairs.iter().map(one).collect()
}

/// What a template sees of a message. A field that is null is left out, as transformers does.
fn fields(message: &Message) -> Result<Fields> {
    let own = parse(&message.fields)?;
    let mut fields = vec![("role".to_string(), Value::from(&*message.role)), ("content".to_string(), Value::from(&*message.content))];
    for (name, value) in own {
        match fields.iter_mut().find(|(taken, _)| *taken == name) {
            Some(taken) => taken.1 = value,
            None => fields.push((name, value)),
        }
    }
    fields.retain(|(_, value)| !value.is_none());
    let find = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone());
    if let Some(reasoning) = REASONING.into_iter().find_map(find) {
        if find("thinking").is_none() {
            fields.insert(0, ("thinking".to_string(), reasoning.clone()));
        }
        fields.retain(|(name, _)| name != "reasoning_content");
        fields.push(("reasoning_content".to_string(), reasoning));
    }
    Ok(fields)
}

/// Marks the end of a message; returns the message as it was.
fn mark_end(message: &mut Fields) -> Result<String> {
    let content = message.iter_mut().find(|(name, _)| name == "content").map(|(_, value)| value);
    match content.and_then(|value| value.as_str().map(str::to_string).map(|text| (value, text))) {
        Some((value, text)) => {
            *value = Value::from(format!("{text}{END_OF_MESSAGE}"));
            Ok(text)
        }
        None => Err(wrong("the last message has no text to be continued; use `ChatEnd::Answer` or `ChatEnd::Closed`")),
    }
}

/// The text up to the end of the marked message. If the template has trimmed the message, so is what is left of it.
fn cut_at_end(text: String, message: &str) -> Result<String> {
    match text.rfind(END_OF_MESSAGE.trim_end()) {
        Some(end) if text.contains(trim(message)) => {
            let keeps_spaces = text[end..].starts_with(END_OF_MESSAGE);
            let text = &text[..end];
            Ok(if keeps_spaces { text } else { text.trim_end_matches(is_space) }.to_string())
        }
        _ => Err(wrong("the last message cannot be continued, because the template changes it or leaves it out")),
    }
}

fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(|output, state, value| {
        check_size(value, DEEPEST, &mut { MOST_ENTRIES })?;
        escape_formatter(output, state, value)
    });
    minijinja_contrib::add_to_environment(&mut environment);
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", to_json);
    environment.add_filter("trim", |value: &Value, characters: Option<&str>| match (value.to_string(), characters) {
        (text, Some(characters)) => text.trim_matches(|character| characters.contains(character)).to_string(),
        (text, None) => trim(&text).to_string(),
    });
    // In Python, texts and maps are sequences too.
    environment
        .add_test("sequence", |value: &Value| value.is_undefined() || matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map));
    environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> { Err(invalid(message)) });
    environment.add_function("strftime_now", |format: &str| strtime::format(format, &Zoned::now()).map_err(|error| invalid(error.to_string())));
    Ok(environment)
}

/// Python's methods; what counts as a space is Python's too.
fn method(state: &mut State, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, minijinja::Error> {
    match (value.as_str(), method, arguments) {
        (Some(text), "strip", []) => Ok(Value::from(trim(text))),
        (Some(text), "lstrip", []) => Ok(Value::from(text.trim_start_matches(is_space))),
        (Some(text), "rstrip", []) => Ok(Value::from(text.trim_end_matches(is_space))),
        (Some(text), "split", []) => Ok(text.split(is_space).filter(|word| !word.is_empty()).map(Value::from).collect()),
        (Some(text), "title", []) => Ok(Value::from(title(text))),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments),
    }
}

/// Unlike Rust, Python also takes the four separators of ASCII for spaces.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Every letter that follows no letter as a capital: `don't` becomes `Don'T`.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut within_word = false;
    for character in text.chars() {
        match within_word {
            true => titled.extend(character.to_lowercase()),
            false => titled.extend(character.to_uppercase()),
        }
        within_word = character.is_lowercase() || character.is_uppercase();
    }
    titled
}

fn invalid(problem: String) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, problem)
}

/// Refuses a value that would take too much stack or memory to be written out: entries may be shared, and so be written many times.
fn check_size(value: &Value, depth: usize, entries: &mut usize) -> Result<(), minijinja::Error> {
    if depth == 0 || *entries == 0 {
        return Err(invalid(format!("a value is nested more than {DEEPEST} times or has more than {MOST_ENTRIES} entries")));
    }
    *entries -= 1;
    match value.kind() {
        ValueKind::Seq => value.try_iter()?.try_for_each(|entry| check_size(&entry, depth - 1, entries)),
        ValueKind::Map => value.try_iter()?.try_for_each(|key| check_size(&value.get_item(&key)?, depth - 1, entries)),
        _ => Ok(()),
    }
}

fn to_json(value: &Value, arguments: Kwargs) -> Result<String, minijinja::Error> {
    check_size(value, DEEPEST, &mut { MOST_ENTRIES })?;
    if value.is_undefined() {
        return Err(invalid("`tojson` of a value that is not defined".into()));
    }
    let ensure_ascii = arguments.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let indent = arguments.get::<Option<usize>>("indent")?;
    if let Some(indent) = indent.filter(|&indent| indent > MOST_INDENT) {
        return Err(invalid(format!("`indent` is {indent}, and may be at most {MOST_INDENT}")));
    }
    let mut python = Python::new(indent, ensure_ascii);
    if let Some(separators) = arguments.get::<Option<Vec<String>>>("separators")? {
        let [between_entries, after_keys] =
            <[String; 2]>::try_from(separators).map_err(|found| invalid(format!("`separators` has {} entries, and should have 2", found.len())))?;
        python = python.separated(between_entries, after_keys);
    }
    let sorted = arguments.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    arguments.assert_all_used()?;
    let text = match sorted {
        true => serde_json::to_value(value).and_then(|mut value| {
            value.sort_all_objects();
            python.dump(&value)
        }),
        false => python.dump(value),
    };
    text.map_err(|error| invalid(error.to_string()))
}

/// A template without the tags that transformers marks an assistant's words with for training, `{% generation %}`: conditions that always
/// hold are in their place, with the same control of spaces.
fn without_generation_tags(template: &str) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, tag)) = rest.split_once("{%") {
        let Some((inside, after)) = tag.split_once("%}") else { break };
        text.push_str(before);
        let signs: &[char] = &['-', '+'];
        let word = match inside.trim_matches(signs).trim() {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        match word {
            Some(word) => {
                let left = &inside[..inside.len() - inside.trim_start_matches(signs).len()];
                let right = &inside[inside.trim_end_matches(signs).len()..];
                text.push_str(&format!("{{%{left} {word} {right}%}}"));
                rest = after;
            }
            // A tag may hold `%}` in a text of its own, and so only its beginning is passed over.
            None => {
                text.push_str("{%");
                rest = tag;
            }
        }
    }
    text + rest
}
