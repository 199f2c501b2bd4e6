//! Routes: from the file as written to tiers by place.

use super::Route;
use super::file::{PolicyFile, RouteFile, WhenFile};
use super::problem::Problem;
use super::reference::refer;

/// A route as it is used; none where what is wrong with it was noted.
pub(super) fn route(file: &RouteFile, policy: &PolicyFile, problems: &mut Vec<Problem>) -> Option<Route> {
    let names = || policy.tiers.value.iter().map(|t| t.name.value.0.as_str());
    let when = &file.when.value;
    if let Some(name) = when.model.as_deref().filter(|m| names().any(|n| n == *m)) {
        let what = format!("`{name}` is a tier's name, which pins that tier, so this route can never match");
        problems.push(Problem::new(file.when.at.clone(), what).help("choose another model name"));
    }
    let tiers = match (&file.tiers, &file.start_at) {
        (Some(list), None) => {
            let places: Vec<_> = list.value.iter().map(|n| refer(n, "tier", names(), problems)).collect();
            let places: Vec<usize> = places.into_iter().collect::<Option<_>>()?;
            if places.is_empty() || !places.is_sorted_by(|a, b| a < b) {
                problems.push(
                    Problem::new(list.at.clone(), "a route's tiers must be a part of the ladder in its order")
                        .help("smallest first, each once"),
                );
                return None;
            }
            places
        }
        (None, Some(start)) => (refer(start, "tier", names(), problems)?..policy.tiers.value.len()).collect(),
        (both, _) => {
            let what =
                if both.is_some() { "a route with both `tiers` and `start_at`" } else { "a route that leads nowhere" };
            problems.push(Problem::new(file.when.at.clone(), what).help("give it `tiers: [...]` or `start_at: ...`"));
            return None;
        }
    };
    Some(Route {
        model: when.model.clone(),
        tools: when.tools,
        prompt_tokens_over: when.prompt_tokens_over.map(|n| n as u64),
        tiers,
    })
}

/// Notes the routes that another one before them always takes.
pub(super) fn unreachable_routes(file: &PolicyFile, problems: &mut Vec<Problem>) {
    for (at, route) in file.routes.iter().enumerate() {
        let when = &route.value.when.value;
        if file.routes[..at].iter().any(|before| covers(&before.value.when.value, when)) {
            let what = "this route can never match: one before it takes every prompt that it would take";
            problems.push(Problem::new(route.at.clone(), what).help("move it up, or remove it"));
        }
    }
}

/// Whether every prompt that meets `narrow` meets `wide` too.
fn covers(wide: &WhenFile, narrow: &WhenFile) -> bool {
    let model = match (&wide.model, &narrow.model) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => {
            wide == narrow
                || wide.strip_suffix('*').is_some_and(|start| narrow.trim_end_matches('*').starts_with(start))
        }
        (Some(wide), None) => wide == "*",
    };
    model
        && wide.tools.is_none_or(|tools| narrow.tools == Some(tools))
        && wide.prompt_tokens_over.is_none_or(|bound| narrow.prompt_tokens_over.is_some_and(|over| over >= bound))
}
