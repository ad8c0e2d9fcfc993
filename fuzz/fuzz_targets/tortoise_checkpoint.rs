//! Checkpoints as PyTorch saves them: the pickle alone, and the whole archive with its tensors.

#![no_main]

use dragoman_fuzz::{bounded, with_file};
use inference::tortoise::import::checkpoint::Checkpoint;
use inference::tortoise::import::pickle::{Entry, Pickle};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // An instruction of a byte makes a value of tens, which is held in tables that grow by doubling.
    let limit = (4 << 20) + 1024 * data.len();
    if !data.starts_with(b"PK") {
        let Ok(pickle) = bounded(limit, || Pickle::read(data)) else { return };
        for (_, entry) in pickle.entries(pickle.root()) {
            match entry {
                Entry::Tensor(place) => assert!(pickle.tensor(*place).is_some()),
                Entry::Dictionary(place) => {
                    let _ = pickle.entries(*place);
                }
                Entry::Other => {}
            }
        }
        return;
    }
    with_file(data, |path| {
        bounded(limit, || {
            let Ok(mut checkpoint) = Checkpoint::open(path, Some("model_g")) else { return };
            for (name, shape) in checkpoint.shapes() {
                if let Ok(tensor) = checkpoint.tensor(&name) {
                    assert_eq!(tensor.dims(), shape);
                }
            }
        });
    });
});
