//! Providers by the names that `LiteLLM` gives them: where they speak OpenAI's API.

/// One provider.
#[derive(Debug)]
pub(super) struct Provider {
    /// What stands before the model's name; the first is the upstream's name here.
    pub prefixes: &'static [&'static str],
    /// Where it speaks OpenAI's API; none where each user has a place of their own.
    pub base_url: Option<&'static str>,
    /// The variable of its key; none where it needs none.
    pub variable: Option<&'static str>,
}

const fn provider(
    prefixes: &'static [&'static str],
    base_url: Option<&'static str>,
    variable: Option<&'static str>,
) -> Provider {
    Provider { prefixes, base_url, variable }
}

/// Those whose place is known.
#[rustfmt::skip]
pub(super) const PROVIDERS: [Provider; 29] = [
    provider(&["openai", "custom_openai", "text-completion-openai"], Some("https://api.openai.com/v1"), Some("OPENAI_API_KEY")),
    provider(&["groq"], Some("https://api.groq.com/openai/v1"), Some("GROQ_API_KEY")),
    provider(&["mistral"], Some("https://api.mistral.ai/v1"), Some("MISTRAL_API_KEY")),
    provider(&["deepseek"], Some("https://api.deepseek.com/v1"), Some("DEEPSEEK_API_KEY")),
    provider(&["together_ai"], Some("https://api.together.xyz/v1"), Some("TOGETHER_API_KEY")),
    provider(&["fireworks_ai"], Some("https://api.fireworks.ai/inference/v1"), Some("FIREWORKS_API_KEY")),
    provider(&["openrouter"], Some("https://openrouter.ai/api/v1"), Some("OPENROUTER_API_KEY")),
    provider(&["xai"], Some("https://api.x.ai/v1"), Some("XAI_API_KEY")),
    provider(&["perplexity"], Some("https://api.perplexity.ai"), Some("PERPLEXITY_API_KEY")),
    provider(&["cerebras"], Some("https://api.cerebras.ai/v1"), Some("CEREBRAS_API_KEY")),
    provider(&["nvidia_nim"], Some("https://integrate.api.nvidia.com/v1"), Some("NVIDIA_NIM_API_KEY")),
    provider(&["sambanova"], Some("https://api.sambanova.ai/v1"), Some("SAMBANOVA_API_KEY")),
    provider(&["deepinfra"], Some("https://api.deepinfra.com/v1/openai"), Some("DEEPINFRA_API_KEY")),
    provider(&["moonshot"], Some("https://api.moonshot.ai/v1"), Some("MOONSHOT_API_KEY")),
    provider(&["dashscope"], Some("https://dashscope-intl.aliyuncs.com/compatible-mode/v1"), Some("DASHSCOPE_API_KEY")),
    provider(&["novita"], Some("https://api.novita.ai/v3/openai"), Some("NOVITA_API_KEY")),
    provider(&["nebius"], Some("https://api.studio.nebius.ai/v1"), Some("NEBIUS_API_KEY")),
    provider(&["hyperbolic"], Some("https://api.hyperbolic.xyz/v1"), Some("HYPERBOLIC_API_KEY")),
    provider(&["lambda_ai"], Some("https://api.lambda.ai/v1"), Some("LAMBDA_API_KEY")),
    provider(&["gemini"], Some("https://generativelanguage.googleapis.com/v1beta/openai"), Some("GEMINI_API_KEY")),
    provider(&["anthropic"], Some("https://api.anthropic.com/v1"), Some("ANTHROPIC_API_KEY")),
    // Its own API is another; this one stands beside it.
    provider(&["ollama", "ollama_chat"], Some("http://127.0.0.1:11434/v1"), None),
    provider(&["azure"], None, Some("AZURE_API_KEY")),
    provider(&["hosted_vllm"], None, None),
    provider(&["lm_studio"], None, None),
    provider(&["openai_like"], None, Some("OPENAI_LIKE_API_KEY")),
    provider(&["litellm_proxy"], None, Some("LITELLM_PROXY_API_KEY")),
    provider(&["llamafile"], Some("http://127.0.0.1:8080/v1"), None),
    provider(&["xinference"], Some("http://127.0.0.1:9997/v1"), None),
];

/// Those that speak another API, and what may be done.
const OTHERS: [(&str, &str); 12] = [
    ("bedrock", "it speaks an API of its own"),
    ("vertex_ai", "its keys live for an hour only"),
    ("sagemaker", "it speaks an API of its own"),
    ("azure_ai", "its path and header differ by the model"),
    ("cohere", "it speaks an API of its own"),
    ("huggingface", "it speaks an API of its own; its router at https://router.huggingface.co/v1 speaks OpenAI's"),
    ("replicate", "it speaks an API of its own"),
    ("watsonx", "it speaks an API of its own"),
    ("databricks", "its place is a workspace's; write it as openai_like with an api_base"),
    ("cloudflare", "its place is an account's; write it as openai_like with an api_base"),
    ("vllm", "it runs within LiteLLM; serve it, and write hosted_vllm with an api_base"),
    ("github_copilot", "its keys are no keys of an API"),
];

impl Provider {
    /// Who is meant by a model's name in a configuration, and the model's name there.
    ///
    /// # Errors
    /// Why it cannot be asked.
    pub fn of<'a>(forced: Option<&str>, model: &'a str, has_place: bool) -> Result<(&'static Self, &'a str), String> {
        let find = |name: &str| PROVIDERS.iter().find(|provider| provider.prefixes.contains(&name));
        let (named, rest) = match (forced, model.split_once('/')) {
            (Some(forced), Some((prefix, rest))) if prefix == forced => (forced, rest),
            (Some(forced), _) => (forced, model),
            (None, Some((prefix, rest))) => (prefix, rest),
            (None, None) => ("", model),
        };
        if let Some(provider) = find(named) {
            return Ok((provider, rest));
        }
        if let Some((name, why)) =
            OTHERS.iter().find(|(name, _)| named == *name || named.starts_with(&format!("{name}_")))
        {
            return Err(format!("`{name}` is not asked here: {why}"));
        }
        // Without a provider's name the model's tells, where nobody is sent what is not his.
        let starts = |words: &[&str]| words.iter().any(|word| model.starts_with(word));
        let guessed = match () {
            () if forced.is_some() => None,
            () if starts(&["claude-"]) => find("anthropic"),
            () if starts(&["gemini-"]) => find("gemini"),
            () if starts(&["gpt-", "chatgpt-", "o1", "o3", "o4", "text-davinci", "davinci", "babbage"]) => {
                find("openai")
            }
            // Whoever is at that place, he is said to speak it.
            () if has_place => find("openai"),
            () => None,
        };
        guessed
            .map(|provider| (provider, model))
            .ok_or_else(|| format!("who answers `{model}` is not known here: write it as openai/ with an `api_base`"))
    }

    /// The base URL for a place that a configuration names.
    pub fn base_of(&self, given: &str) -> String {
        let given = given.trim_end_matches('/');
        match self.prefixes[0] {
            // Its own API stands beside OpenAI's.
            "ollama" | "anthropic" if !given.ends_with("/v1") => format!("{given}/v1"),
            "azure" if !given.contains("/openai") => format!("{given}/openai/v1"),
            _ => given.to_owned(),
        }
    }
}
