//! A small fork-join pool for matrix products, with a thread count of its own: stages that share a
//! processor each get their budget, and a helper that the system delays delays nobody, because the
//! caller goes on taking pieces of the work itself.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use super::kernel::Kernel;
use super::tiles::{ROWS, RoundedRows, Tiles};

/// A helper looks for work this long before it sleeps: while a token is read the next product
/// follows in less, and on a busy machine a sleeper is woken late.
const PATIENCE: Duration = Duration::from_micros(50);
/// Pieces per thread: enough to even out delays, few enough to cost nothing.
const PIECES: usize = 4;

/// One or more matrices to multiply with the same rows.
struct Task {
    kernel: Kernel,
    matrices: Vec<Arc<Tiles>>,
    inputs: RoundedRows,
    pieces: Vec<Piece>,
    next: AtomicUsize,
    results: Sender<(usize, Vec<f32>)>,
}

struct Piece {
    matrix: usize,
    strips: Range<usize>,
}

impl Task {
    /// Does the next piece that nobody has taken; `None` when there is none.
    fn do_piece(&self) -> Option<(usize, Vec<f32>)> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let piece = self.pieces.get(index)?;
        let mut output = Vec::with_capacity(piece.strips.len() * ROWS * self.inputs.rows());
        let tiles = &self.matrices[piece.matrix];
        self.kernel.multiply(tiles, &self.inputs, piece.strips.clone(), &mut output);
        Some((index, output))
    }
}

/// The pool. Threads end when it is dropped.
#[derive(Debug)]
pub(super) struct Workers {
    kernel: Kernel,
    queue: Option<Sender<Arc<Task>>>,
    helpers: Vec<JoinHandle<()>>,
}

impl Workers {
    /// A pool that computes on the calling thread and `threads − 1` helpers.
    pub(super) fn new(kernel: Kernel, threads: usize) -> std::io::Result<Self> {
        let (queue, tasks) = crossbeam_channel::bounded::<Arc<Task>>(threads.max(1));
        let helpers = (1..threads)
            .map(|index| {
                let tasks = tasks.clone();
                std::thread::Builder::new()
                    .name(format!("translate-{index}"))
                    .spawn(move || help(&tasks))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { kernel, queue: Some(queue), helpers })
    }

    /// What the pool computes with.
    pub(super) fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Multiplies rows with matrices of the given output counts. Each result is `[row][output]`.
    ///
    /// # Errors
    /// A helper died in the middle of a piece.
    pub(super) fn multiply(
        &self,
        matrices: Vec<(Arc<Tiles>, usize)>,
        rows: &[f32],
        inputs: usize,
    ) -> candle_core::Result<Vec<Vec<f32>>> {
        let inputs = RoundedRows::new(rows, inputs);
        let row_count = inputs.rows();
        let mut outputs: Vec<Vec<f32>> =
            matrices.iter().map(|(_, outputs)| vec![0.0; outputs * row_count]).collect();
        let widths: Vec<usize> = matrices.iter().map(|(_, outputs)| *outputs).collect();
        let all_strips: usize = widths.iter().map(|width| width / ROWS).sum();
        let piece_strips = all_strips.div_ceil((self.helpers.len() + 1) * PIECES).max(1);
        let pieces: Vec<Piece> = widths
            .iter()
            .enumerate()
            .flat_map(|(matrix, width)| {
                let strips = width / ROWS;
                (0..strips).step_by(piece_strips).map(move |start| Piece {
                    matrix,
                    strips: start..strips.min(start + piece_strips),
                })
            })
            .collect();
        // One place per piece: no helper ever waits to hand in its result.
        let (results, finished) = crossbeam_channel::bounded(pieces.len());
        let task = Arc::new(Task {
            kernel: self.kernel,
            matrices: matrices.into_iter().map(|(tiles, _)| tiles).collect(),
            inputs,
            pieces,
            next: AtomicUsize::new(0),
            results,
        });
        if let Some(queue) = &self.queue {
            for _ in &self.helpers {
                // A full queue means that the helpers are late: then the work is done here.
                let _ = queue.try_send(task.clone());
            }
        }
        let mut missing = task.pieces.len();
        let mut place = |index: usize, values: &[f32]| {
            let piece = &task.pieces[index];
            let width = widths[piece.matrix];
            scatter(values, piece.strips.start, width, row_count, &mut outputs[piece.matrix]);
        };
        while let Some((index, values)) = task.do_piece() {
            place(index, &values);
            missing -= 1;
        }
        while missing > 0 {
            match finished.recv_timeout(Duration::from_secs(60)) {
                Ok((index, values)) => place(index, &values),
                Err(_) => candle_core::bail!("a helper thread of the translator died"),
            }
            missing -= 1;
        }
        Ok(outputs)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        drop(self.queue.take());
        for helper in self.helpers.drain(..) {
            // A helper that panicked has already been reported by its task.
            let _ = helper.join();
        }
    }
}

fn help(tasks: &Receiver<Arc<Task>>) {
    while let Some(task) = next_task(tasks) {
        while let Some(result) = task.do_piece() {
            if task.results.send(result).is_err() {
                break;
            }
        }
    }
}

fn next_task(tasks: &Receiver<Arc<Task>>) -> Option<Arc<Task>> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        match tasks.try_recv() {
            Ok(task) => return Some(task),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => std::hint::spin_loop(),
        }
    }
    tasks.recv().ok()
}

/// Moves `[strip][row][16]` to `[row][output]`.
fn scatter(values: &[f32], first_strip: usize, width: usize, rows: usize, output: &mut [f32]) {
    for (index, sixteen) in values.as_chunks::<ROWS>().0.iter().enumerate() {
        let (strip, row) = (first_strip + index / rows, index % rows);
        let start = row * width + strip * ROWS;
        output[start..start + ROWS].copy_from_slice(sixteen);
    }
}
