//! What the server tells about itself: log lines on standard error, and figures.

use std::{
    io::{self, IsTerminal},
    sync::OnceLock,
};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::filter::LevelFilter;

use crate::{
    config::{LogFormat, LogLevel, LogSettings},
    failure::Failure,
};

static FIGURES: OnceLock<PrometheusHandle> = OnceLock::new();

/// Begins to log as the configuration says. Once per process; a second call changes nothing.
pub fn begin(settings: &LogSettings) {
    let level = match settings.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let builder = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(level).with_target(false);
    let begun = match settings.format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    if begun.is_err() {
        tracing::debug!("logging had begun before");
    }
}

/// Begins to record figures.
///
/// # Errors
/// When something else records them already.
pub fn record_metrics() -> Result<PrometheusHandle, Failure> {
    let handle = PrometheusBuilder::new().install_recorder();
    let handle = handle.map_err(|error| Failure::Refused(format!("cannot record metrics: {error}")))?;
    Ok(FIGURES.get_or_init(|| handle).clone())
}

/// Lets go of what recorded figures no longer need.
pub(super) fn tidy() {
    if let Some(handle) = FIGURES.get() {
        handle.run_upkeep();
    }
}
