//! What a check finds wrong with a pod, and how several findings are put into one message.

/// A check that a pod does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What is wrong, without values of the pod's.
    pub reason: &'static str,
    /// Which containers, volumes and values, where that says more.
    pub detail: String,
}

/// The violations with their details, as a refusal and a warning tell them.
pub fn details(violations: &[Violation]) -> String {
    let texts = violations.iter().map(|Violation { reason, detail }| {
        if detail.is_empty() { (*reason).to_owned() } else { format!("{reason} ({detail})") }
    });
    texts.collect::<Vec<_>>().join(", ")
}

/// The violations without details, as pods with the same ones are counted.
pub fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|violation| violation.reason).collect::<Vec<_>>().join(", ")
}
