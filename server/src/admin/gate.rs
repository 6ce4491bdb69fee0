//! The gate of the running server.

use super::execute::Host;

/// Fills the buckets of somebody; the names of the limits that had taken something.
pub(super) fn refill(host: &Host, who: &str) -> Result<String, String> {
    let Some(server) = &host.server else {
        return Err("no server is running".to_owned());
    };
    let account = host.engine.directory().account_by_login(who).map(|account| account.id);
    let services = &server.services;
    let filled = services.gate.refill(&services.config(), who, account);
    if filled.is_empty() {
        return Ok(format!("no limit holds back {who}"));
    }
    tracing::info!(who, limits = filled.join(" "), "filled by an administrator");
    Ok(format!("filled for {who}: {}", filled.join(", ")))
}
