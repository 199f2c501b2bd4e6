//! Where a prompt stands in a conversation.

use std::borrow::Cow;

use blake3::Hasher;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::canonical::feed;

/// One turn of a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// The conversation: by the client's name for it, else by its system
    /// message and its first user message. None where neither is there.
    pub conversation: Option<[u8; 32]>,
    /// Whether something was answered before.
    pub is_later: bool,
    /// Whether the last message is a tool's result.
    pub follows_tool: bool,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    role: Option<Cow<'a, str>>,
    /// Items of a response's input that are no messages have a type.
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

impl Turn {
    /// Reads the messages (or a response's input and instructions); `session` is
    /// the client's own name for the conversation.
    #[must_use]
    pub fn read(messages: &str, instructions: Option<&str>, session: Option<&str>) -> Self {
        let mut hasher = Hasher::new();
        if let Some(instructions) = instructions {
            hasher.update(b"instructions");
            feed(&mut hasher, instructions);
        }
        // A mere text is what one user's message would say.
        let mut has_opening = messages.starts_with('"');
        if has_opening {
            hasher.update(b"user");
            feed(&mut hasher, messages);
        }
        let messages: Vec<Message<'_>> = serde_json::from_str(messages).unwrap_or_default();
        for message in &messages {
            let role = message.role.as_deref().unwrap_or("");
            if !matches!(role, "system" | "developer" | "user") {
                break;
            }
            hasher.update(role.as_bytes());
            message.content.iter().for_each(|content| feed(&mut hasher, content.get()));
            if role == "user" {
                has_opening = true;
                break;
            }
        }
        if let Some(session) = session {
            hasher = Hasher::new();
            hasher.update(b"session ").update(session.as_bytes());
        }
        let is = |message: &Message<'_>, words: &[&str]| {
            [&message.role, &message.kind].into_iter().flatten().any(|word| words.contains(&&**word))
        };
        Self {
            conversation: (has_opening || session.is_some()).then(|| hasher.finalize().into()),
            is_later: session.is_some() || messages.iter().any(|m| is(m, &["assistant", "function_call"])),
            follows_tool: messages.last().is_some_and(|m| is(m, &["tool", "function", "function_call_output"])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_of_one_conversation_share_its_key() {
        let opening = r#"{"role":"system","content":"s"},{"role":"user","content":"q"}"#;
        let first = Turn::read(&format!("[{opening}]"), None, None);
        let later = Turn::read(
            &format!(r#"[{opening},{{"role":"assistant","content":"a"}},{{"role":"user","content":"r"}}]"#),
            None,
            None,
        );
        let tool = Turn::read(
            &format!(r#"[{opening},{{"role":"assistant","tool_calls":[]}},{{"role":"tool","content":"r"}}]"#),
            None,
            None,
        );
        assert_eq!((first.conversation, first.is_later), (later.conversation, false));
        assert!(first.conversation.is_some() && later.is_later && !later.follows_tool);
        assert_eq!((tool.conversation, tool.follows_tool), (first.conversation, true));
        let other = Turn::read(r#"[{"role":"user","content":"q"}]"#, None, None);
        assert_ne!(other.conversation, first.conversation);
        assert_eq!(Turn::read("5", None, None), Turn::default());
        let text = Turn::read("\"q\"", None, None);
        assert_eq!(text.conversation, other.conversation, "a text is a message");
        assert_ne!(Turn::read("\"q\"", Some("\"be brief\""), None).conversation, text.conversation);
        let output = Turn::read(
            r#"[{"role":"user","content":"q"},{"type":"function_call"},{"type":"function_call_output"}]"#,
            None,
            None,
        );
        assert!(output.is_later && output.follows_tool);
    }

    #[test]
    fn a_session_is_a_conversation_whatever_is_said_in_it() {
        let one = Turn::read(r#"[{"role":"user","content":"q"}]"#, None, Some("s1"));
        let other = Turn::read(r#"[{"role":"user","content":"r"}]"#, None, Some("s1"));
        assert_eq!(one, other);
        assert!(one.is_later);
        assert_ne!(one.conversation, Turn::read("[]", None, Some("s2")).conversation);
    }
}
