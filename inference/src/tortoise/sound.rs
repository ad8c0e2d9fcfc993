//! Windows of latents become sound on one thread, those of all sessions that wait at that moment
//! together.

use std::sync::Arc;
use std::thread::JoinHandle;

use candle_core::{Result, Tensor, bail};
use crossbeam_channel::{Receiver, Sender, bounded};

use super::hifigan::{Hifigan, Window};
use crate::panics::catching;

/// Windows that may wait: more than there are sessions at a time. Full: whoever comes waits.
const QUEUE: usize = 256;
/// Windows that are decoded together at most.
const TOGETHER: usize = 32;

struct Request {
    window: Window,
    reply: Sender<Result<Vec<f32>>>,
}

/// The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Sound {
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Sound {
    pub(super) fn start(hifigan: Arc<Hifigan>) -> std::io::Result<Self> {
        let (requests, waiting) = bounded(QUEUE);
        let thread = std::thread::Builder::new()
            .name("speak-sound".to_owned())
            .spawn(move || run(&hifigan, &waiting))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// The samples of a window.
    pub(super) fn of(&self, window: Window) -> Result<Vec<f32>> {
        let (reply, answer) = bounded(1);
        let sent = self.requests.as_ref().map(|requests| requests.send(Request { window, reply }));
        match (sent, answer.recv()) {
            (Some(Ok(())), Ok(samples)) => samples,
            _ => bail!("the thread that makes sound has ended"),
        }
    }
}

impl Drop for Sound {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that makes sound had panicked");
        }
    }
}

fn run(hifigan: &Hifigan, waiting: &Receiver<Request>) {
    while let Ok(first) = waiting.recv() {
        let others = waiting.try_iter().take(TOGETHER - 1);
        let (windows, replies): (Vec<_>, Vec<_>) = [first]
            .into_iter()
            .chain(others)
            .map(|Request { window, reply }| (window, reply))
            .unzip();
        match decode(hifigan, &windows) {
            Ok(sounds) => {
                for (reply, samples) in replies.iter().zip(sounds) {
                    // Whoever asked may have gone.
                    let _ = reply.send(Ok(samples));
                }
            }
            Err(_) if windows.len() > 1 => {
                // One bad window takes no other with it.
                for (reply, window) in replies.iter().zip(windows) {
                    let alone = decode(hifigan, &[window]);
                    let _ = reply.send(alone.map(|mut sounds| sounds.pop().unwrap_or_default()));
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(candle_core::Error::Msg(error.to_string())));
                }
            }
        }
    }
}

fn decode(hifigan: &Hifigan, windows: &[Window]) -> Result<Vec<Vec<f32>>> {
    let decoded = catching(|| {
        let sounds = hifigan.decode_windows(windows)?;
        sounds.iter().map(Tensor::to_vec1).collect::<Result<Vec<Vec<f32>>>>()
    });
    match decoded {
        Ok(sounds) => sounds,
        Err(panicked) => bail!("{panicked}"),
    }
}
