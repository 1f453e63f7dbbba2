//! A clock that does not wait.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bedrock_core::BoxFuture;
use bedrock_models::remote::{Clock, RemoteOptions};

/// Stands at one time, draws one number, and notes how long it was asked to wait.
#[derive(Debug, Default)]
pub(crate) struct Stopped {
    pub(crate) seconds: u64,
    pub(crate) random: f64,
    pub(crate) waits: Mutex<Vec<Duration>>,
}

impl Clock for Stopped {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.seconds)
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.waits.lock().expect("no panic").push(time);
        Box::pin(std::future::ready(()))
    }

    fn random(&self) -> f64 {
        self.random
    }
}

/// Options with a clock that stands at `seconds` after 1970.
pub(crate) fn stopped(seconds: u64) -> (RemoteOptions, Arc<Stopped>) {
    let clock = Arc::new(Stopped { seconds, random: 0.5, waits: Mutex::default() });
    (RemoteOptions { clock: clock.clone(), ..RemoteOptions::default() }, clock)
}
