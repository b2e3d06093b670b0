//! Near misses, as tables.

use maud::{Markup, html};

use super::super::NearMisses;
use super::super::words::{Clock, MAX_NAME_CHARS, MAX_TEXT_CHARS, length, tidy};

/// The most rows of each table.
const MAX_ROWS: usize = 40;

/// The suggestions first: they are what follows from the rest.
pub fn section(near: &NearMisses, clock: Clock) -> Markup {
    let name = |name: &Option<String>, id: &str| tidy(name.as_deref().unwrap_or(id), MAX_NAME_CHARS);
    html! {
        section #near {
            h2 { "Near misses" }
            @for one in near.suggestions.iter().take(MAX_ROWS) {
                p.text {
                    b { (tidy(&one.cluster, MAX_NAME_CHARS)) } ": "
                    @if one.current { "the policy in force is right, " } @else { "suggested is " }
                    code { @if one.policy.is_empty() { "all defaults" } @else { (tidy(&one.policy, MAX_TEXT_CHARS)) } }
                    ". " (tidy(&one.text, MAX_TEXT_CHARS))
                }
            }
            h3 { "Failing streaks that ended in time" }
            @if near.streaks.is_empty() { p { "None." } } @else {
                div.wide { table {
                    thead { tr { th scope="col" { "when" } th scope="col" { "node" } th scope="col" { "check" } th scope="col" { "failed" } th scope="col" { "what" } } }
                    tbody { @for one in near.streaks.iter().take(MAX_ROWS) { tr {
                        td { (clock.precise(one.from)) " to " (clock.precise(one.to)) }
                        td { (name(&one.name, &one.node)) }
                        td { (tidy(&one.check, MAX_NAME_CHARS)) }
                        td { (one.fails) " of " (one.fall) }
                        td { (tidy(&one.text, MAX_TEXT_CHARS)) }
                    } } }
                } }
            }
            h3 { "Slowest answers that came in time" }
            @if near.slow.is_empty() { p { "None." } } @else {
                div.wide { table {
                    thead { tr { th scope="col" { "about when" } th scope="col" { "node" } th scope="col" { "check" } th scope="col" { "took" } th scope="col" { "limit" } } }
                    tbody { @for one in near.slow.iter().take(MAX_ROWS) { tr {
                        td { (clock.second(one.at)) }
                        td { (name(&one.name, &one.node)) }
                        td { (tidy(&one.check, MAX_NAME_CHARS)) }
                        td { (length(one.took_ms)) }
                        td { (length(one.timeout_ms)) }
                    } } }
                } }
            }
        }
    }
}
