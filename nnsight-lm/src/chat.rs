//! A conversation as a prompt. It stays data: the model's own template turns it into tokens when the graph reaches the tokenizer.

use std::fmt::{Display, Formatter};

use serde::{Deserialize, Serialize};

/// A conversation, which the model's chat template turns into text: `apply_chat_template` of Hugging Face's transformers.
///
/// # Examples
/// ```
/// use nnsight_lm::{Chat, ChatEnd, Message, Prompt};
/// // Asks for the assistant's answer.
/// let question = Prompt::chat([Message::system("Answer in one word."), Message::user("What is the capital of France?")]);
/// // Has the assistant's message continued instead, and sets a variable of the template.
/// let begun = Chat::new([("user", "What is the capital of France?"), ("assistant", "The capital is")]);
/// let begun = begun.ending(ChatEnd::Continued).with("enable_thinking", false);
/// assert_eq!(begun.to_string(), r#"chat user: "What is the capital of France?", assistant: "The capital is" continued, enable_thinking=false"#);
/// # let _ = (question, Prompt::from(begun));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Chat {
    /// What was said so far, in order.
    pub messages: Vec<Message>,
    /// What follows the last message.
    #[serde(default)]
    pub end: ChatEnd,
    /// Further variables of the template, such as `tools`: name, and value as JSON.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<(String, String)>,
}

/// One message of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Who says it: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
    /// Further fields that the template reads, such as `tool_calls`: name, and value as JSON. One of them may replace `content`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<(String, String)>,
}

/// What follows the last message of a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatEnd {
    /// What comes before an answer of the assistant, so that the model writes one: `add_generation_prompt=True`.
    #[default]
    Answer,
    /// Nothing: `add_generation_prompt=False`.
    Closed,
    /// The message is left open, so that the model goes on with it: `continue_final_message=True`.
    Continued,
}

impl Message {
    /// A message by the name of who says it.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into(), fields: Vec::new() }
    }

    /// What the model is told before the conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Message::new("system", content)
    }

    /// What the user says.
    pub fn user(content: impl Into<String>) -> Self {
        Message::new("user", content)
    }

    /// What the model says.
    pub fn assistant(content: impl Into<String>) -> Self {
        Message::new("assistant", content)
    }

    /// With a further field, as JSON: a `serde_json::Value`, a number, a boolean, or JSON text.
    #[must_use]
    pub fn with(mut self, field: impl Into<String>, json: impl Display) -> Self {
        self.fields.push((field.into(), json.to_string()));
        self
    }
}

impl<R: Into<String>, C: Into<String>> From<(R, C)> for Message {
    fn from((role, content): (R, C)) -> Self {
        Message::new(role, content)
    }
}

impl From<&Message> for Message {
    fn from(message: &Message) -> Self {
        message.clone()
    }
}

impl Chat {
    /// A conversation to which the model is to give the assistant's answer.
    pub fn new<M: Into<Message>>(messages: impl IntoIterator<Item = M>) -> Self {
        Chat { messages: messages.into_iter().map(Into::into).collect(), ..Chat::default() }
    }

    /// With another end.
    #[must_use]
    pub fn ending(self, end: ChatEnd) -> Self {
        Chat { end, ..self }
    }

    /// With a further variable of the template, as JSON: a `serde_json::Value`, a number, a boolean, or JSON text.
    #[must_use]
    pub fn with(mut self, variable: impl Into<String>, json: impl Display) -> Self {
        self.variables.push((variable.into(), json.to_string()));
        self
    }
}

impl Display for Chat {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("chat")?;
        for (index, message) in self.messages.iter().enumerate() {
            write!(f, "{} {}: {:?}", if index == 0 { "" } else { "," }, message.role, message.content)?;
            message.fields.iter().try_for_each(|(name, json)| write!(f, " {name}={json}"))?;
        }
        match self.end {
            ChatEnd::Answer => {}
            ChatEnd::Closed => f.write_str(" closed")?,
            ChatEnd::Continued => f.write_str(" continued")?,
        }
        self.variables.iter().try_for_each(|(name, json)| write!(f, ", {name}={json}"))
    }
}
