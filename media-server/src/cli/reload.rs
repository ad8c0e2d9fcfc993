//! SIGHUP: the models are loaded anew, if the configuration names others or their files are others
//! than before, and take the place of those in use. Calls go on meanwhile.

use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::{Receiver, bounded};
use tokio::signal::unix::{SignalKind, signal};

use crate::engine::{FileStamp, Models, ModelsConfig};
use crate::rooms::Rooms;

/// How often it is looked whether anybody still computes with the models before.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the models in use were loaded from.
pub(super) struct Loaded {
    config: ModelsConfig,
    files: Vec<FileStamp>,
}

impl Loaded {
    /// Loads the models of a configuration.
    pub(super) fn load(config: &ModelsConfig) -> anyhow::Result<(Self, Models)> {
        let files = config.files()?;
        let models = Models::load(config)?;
        Ok((Self { config: config.clone(), files }, models))
    }

    /// Follows SIGHUP from now on: `read` gives the configuration as it is then. Ends with the
    /// runtime.
    pub(super) fn follow(
        self,
        house: &Arc<Rooms>,
        read: impl Fn() -> anyhow::Result<ModelsConfig> + Send + 'static,
    ) -> anyhow::Result<()> {
        let mut hangups = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        // One reload at a time, and one more if files changed while it went on.
        let (wish, wishes) = bounded::<()>(1);
        tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                let _ = wish.try_send(());
            }
        });
        let house = Arc::downgrade(house);
        // A thread of its own: the end of the server waits for no model to be loaded.
        std::thread::Builder::new()
            .name("reload".to_owned())
            .spawn(move || self.run(&wishes, &house, read))
            .context("cannot start a thread")?;
        Ok(())
    }

    fn run(
        mut self,
        wishes: &Receiver<()>,
        house: &Weak<Rooms>,
        read: impl Fn() -> anyhow::Result<ModelsConfig>,
    ) {
        for () in wishes {
            match self.reload(house, read()) {
                Ok(true) => tracing::info!("the models were replaced"),
                Ok(false) => tracing::info!("the models stay: nothing about them has changed"),
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "the models stay as they were");
                }
            }
        }
    }

    /// Whether other models are in use now.
    fn reload(
        &mut self,
        house: &Weak<Rooms>,
        config: anyhow::Result<ModelsConfig>,
    ) -> anyhow::Result<bool> {
        let config = config?;
        let files = config.files()?;
        if config == self.config && files == self.files {
            return Ok(false);
        }
        tracing::info!("loading the models anew");
        let models = Models::load(&config)?;
        let Some(before) = house.upgrade().map(|house| house.replace_models(models)) else {
            return Ok(false);
        };
        *self = Self { config, files };
        // Freed here, so that no request pays for it.
        while Arc::strong_count(&before) > 1 {
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(true)
    }
}
