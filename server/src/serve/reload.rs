//! SIGHUP: the configuration and the certificate are read again.

use std::{io, path::Path, sync::Arc};

use crate::{
    config::{self, Config},
    data_dir::DataDir,
    net::{limits::Limits, tls::TlsSwitch},
    services::Services,
};

/// What a reload needs.
pub(super) struct Reload<'a> {
    /// The configuration file.
    pub(super) path: &'a Path,
    /// What we started with: in force where a running server cannot change.
    pub(super) started: Config,
    pub(super) data_dir: &'a DataDir,
    pub(super) tls: Arc<TlsSwitch>,
    pub(super) limits: Arc<Limits>,
    pub(super) services: &'a Services,
}

impl Reload<'_> {
    /// Puts in force what can be changed. With a mistake anywhere, nothing changes.
    pub(super) fn run(&mut self) {
        let read = config::read(self.path).map_err(|problems| problems.0.iter().map(ToString::to_string).collect());
        let loaded = read.and_then(|config| match self.certificate(&config) {
            Ok(tls) => Ok((config, tls)),
            Err(error) => Err(vec![error.to_string()]),
        });
        match loaded {
            Ok((config, tls)) => self.put_in_force(config, tls),
            Err(problems) => {
                let problems: Vec<String> = problems;
                for problem in problems {
                    tracing::error!(problem, "not reloaded");
                }
            }
        }
    }

    fn certificate(&self, config: &Config) -> io::Result<TlsSwitch> {
        match &config.tls {
            Some(files) => TlsSwitch::from_files(&files.certificate, &files.key),
            None => self.data_dir.self_signed(&config.hostname),
        }
    }

    fn put_in_force(&self, config: Config, tls: TlsSwitch) {
        for setting in config::not_live(&self.started, &config) {
            tracing::warn!(setting, "changed in the configuration, but in force only after a restart");
        }
        self.limits.change(config.limits.connections, config.limits.connections_per_address);
        self.services.login.change(&config.login);
        self.tls.replace(tls);
        self.services.change_config(Arc::new(config));
        tracing::info!("reloaded");
    }
}
