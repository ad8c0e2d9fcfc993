use super::*;

use crate::tortoise::import::pickling::Pickler;

const FLOATS: (&str, &str, i64) = ("FloatStorage", "0", 24);

/// A dictionary that `with` puts one entry into.
fn dictionary(with: impl FnOnce(Pickler) -> Pickler) -> Vec<u8> {
    with(Pickler::new().raw(b"}")).raw(b"s").stop()
}

#[track_caller]
fn refused(pickle: &[u8]) -> String {
    match Pickle::read(pickle) {
        Err(PickleError::Refused { name, .. }) => name,
        other => panic!("not refused: {other:?}"),
    }
}

#[track_caller]
fn malformed(pickle: &[u8]) -> &'static str {
    match Pickle::read(pickle) {
        Err(PickleError::Malformed { reason, .. }) => reason,
        other => panic!("not malformed: {other:?}"),
    }
}

#[track_caller]
fn too_large(pickle: &[u8]) -> &'static str {
    match Pickle::read(pickle) {
        Err(PickleError::TooLarge { what, .. }) => what,
        other => panic!("not too large: {other:?}"),
    }
}

#[test]
fn a_dictionary_of_tensors_is_read() {
    let pickle = dictionary(|p| p.text("a.weight").tensor(FLOATS, 2, &[2, 3], &[4, 1]));
    let pickle = Pickle::read(&pickle).unwrap();
    let [("a.weight", Entry::Tensor(place))] = pickle.entries(pickle.root()) else {
        panic!("{pickle:?}");
    };
    let storage = StorageRef { key: "0".to_owned(), kind: Kind::F32, length: 24 };
    let expected = TensorRef { storage, offset: 2, shape: vec![2, 3], strides: vec![4, 1] };
    assert_eq!(pickle.tensor(*place), Some(&expected));
    assert_eq!(pickle.entries(99), []);
    assert_eq!(pickle.tensor(99), None);
}

#[test]
fn numbers_texts_lists_and_dictionaries_within_are_read_and_left_alone() {
    let pickle = Pickler::new()
        .raw(b"}(")
        .text("within")
        .raw(b"}")
        .text("state")
        .raw(b"](K\x01M\x01\x02J\xff\xff\xff\xffe")
        .raw(b"K\x01a")
        .text("rate")
        .raw(b"G\x3f\xe0\0\0\0\0\0\0")
        .raw(b"K\x05N\x88\x89")
        .raw(b"u.")
        .0;
    let pickle = Pickle::read(&pickle).unwrap();
    let names: Vec<_> = pickle.entries(pickle.root()).iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["within", "state", "rate"]);
    assert!(matches!(pickle.entries(pickle.root())[0].1, Entry::Dictionary(_)));
    assert_eq!(pickle.entries(pickle.root())[1].1, Entry::Other);
}

#[test]
fn values_are_remembered_and_recalled_as_the_same() {
    // The dictionary is remembered before its entry is put in, and recalled as its own entry.
    let pickle = Pickler::new().raw(b"}q\x05").text("self").raw(b"h\x05s.").0;
    let pickle = Pickle::read(&pickle).unwrap();
    assert_eq!(pickle.entries(pickle.root()), [("self", Entry::Dictionary(pickle.root()))]);
    let wide = Pickler::new().raw(b"}r\xff\xff\xff\xff").text("self").raw(b"j\xff\xff\xff\xffs.").0;
    assert!(Pickle::read(&wide).is_ok());
    assert_eq!(malformed(b"\x80\x02}h\x05."), "it recalls what it has not remembered");
}

#[test]
fn a_function_that_is_asked_for_is_refused_by_its_name_and_never_called() {
    let call = |p: Pickler| p.text("a").global("os", "system").text("true").raw(b"\x85R");
    assert_eq!(refused(&dictionary(call)), "os.system");
    // Already by asking: whether it is called does not matter.
    assert_eq!(refused(&dictionary(|p| p.text("a").global("posix", "system"))), "posix.system");
    let by_stack = |p: Pickler| p.text("a").text("builtins").text("eval").raw(b"\x93");
    assert_eq!(refused(&dictionary(by_stack)), "builtins.eval");
    for (module, name) in [
        ("torch", "load"),
        ("torch", "FloatStorage.__reduce__"),
        ("torch._utils", "_rebuild_tensor"),
        ("torch.storage", "_load_from_bytes"),
        ("collections", "OrderedDict.fromkeys"),
        ("__builtin__", "getattr"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("__main__", "Model"),
    ] {
        let pickle = dictionary(|p| p.text("a").global(module, name));
        assert_eq!(refused(&pickle), format!("{module}.{name}"));
    }
}

#[test]
fn known_names_make_nothing_but_what_state_dictionaries_have() {
    // An ordered dictionary of given entries, a storage that is called, a tensor that is called.
    let ordered = |p: Pickler| p.global("collections", "OrderedDict");
    let with_entries = |p| ordered(Pickler::text(p, "a")).raw(b"]\x85R");
    assert_eq!(refused(&dictionary(with_entries)), "a call");
    let without_tuple = |p| ordered(Pickler::text(p, "a")).raw(b"NR");
    assert_eq!(refused(&dictionary(without_tuple)), "a call");
    let storage = |p: Pickler| p.text("a").global("torch", "FloatStorage").raw(b")R");
    assert_eq!(refused(&dictionary(storage)), "a call");
    let tensor = |p: Pickler| p.text("a").tensor(FLOATS, 0, &[1], &[1]).raw(b")R");
    assert_eq!(refused(&dictionary(tensor)), "a call");
    let rebuilt =
        |p: Pickler| p.text("a").global("torch._utils", "_rebuild_tensor_v2").raw(b"(NNNNNNtR");
    assert_eq!(malformed(&dictionary(rebuilt)), "a tensor is made of something else");
    let parameter =
        |p: Pickler| p.text("a").global("torch._utils", "_rebuild_parameter").raw(b")R");
    assert_eq!(malformed(&dictionary(parameter)), "a parameter is made of something else");
}

#[test]
fn state_is_given_to_ordered_dictionaries_only_and_is_metadata_only() {
    let with = |name: &str, target: &[u8]| {
        Pickler::new().raw(target).raw(b"}").text(name).raw(b"}sb").stop()
    };
    let ordered = b"ccollections\nOrderedDict\n)R";
    assert!(Pickle::read(&with("_metadata", ordered)).is_ok());
    let state = "the state of an object";
    assert_eq!(refused(&with("__setstate__", ordered)), state);
    assert_eq!(refused(&with("_metadata", b"}")), state);
    assert_eq!(refused(&with("_metadata", b"ctorch\nFloatStorage\n")), state);
    assert_eq!(refused(&Pickler::new().raw(ordered).raw(b"K\x01b").stop()), state);
}

#[test]
fn instructions_that_make_objects_are_refused() {
    for (code, name) in [
        (&b"(ios\nsystem\n"[..], "a new object of a class"),
        (b"(o", "a new object of a class"),
        (b")\x81", "a new object of a class"),
        (b")}\x92", "a new object of a class"),
        (b"\x82\x01", "an extension"),
        (b"\x83\x01\x01", "an extension"),
        (b"\x84\x01\0\0\0", "an extension"),
        (b"P0\n", "something kept outside"),
        (b"NQ", "something kept outside"),
        (b"B\0\0\0\0", "raw bytes"),
        (b"\x8f", "a set"),
        (b"N0", "what recursive values need"),
        (b"I1\n", "an instruction of an older protocol"),
        (b"\x8b\0\0\0\0", "a very long number"),
        (b"\xff", "the unknown instruction 0xff"),
    ] {
        assert_eq!(refused(&Pickler::new().raw(code).stop()), name, "{code:?}");
    }
}

#[test]
fn storages_are_known_by_kind_key_and_length() {
    let odd = [
        Pickler::new().raw(b"(").text("storage").text("torch").text("0").text("cpu").int(1),
        Pickler::new().raw(b"(").text("module").global("torch", "FloatStorage"),
        Pickler::new().raw(b"(").text("storage").global("torch", "FloatStorage").text("0"),
    ];
    for id in odd {
        assert_eq!(refused(&id.raw(b"tQ").stop()), "something kept outside");
    }
    let negative = dictionary(|p| p.text("a").tensor(("FloatStorage", "0", -1), 0, &[], &[]));
    assert_eq!(malformed(&negative), "a storage has a negative length");
    let key = "0".repeat(65);
    let long = dictionary(|p| p.text("a").tensor(("FloatStorage", &key, 1), 0, &[], &[]));
    assert_eq!(too_large(&long), "storages");
    let complex = dictionary(|p| p.text("a").tensor(("ComplexFloatStorage", "0", 1), 0, &[], &[]));
    assert_eq!(refused(&complex), "torch.ComplexFloatStorage");
}

#[test]
fn a_tensor_lies_within_its_storage() {
    let read = |offset, shape: &[i64], strides: &[i64]| {
        let pickle = dictionary(|p| p.text("a").tensor(FLOATS, offset, shape, strides));
        Pickle::read(&pickle).map(drop)
    };
    let beyond = "a tensor reaches beyond its storage";
    for (offset, shape, strides) in [
        (0, &[24][..], &[1][..]),
        (23, &[], &[]),
        (0, &[6, 4], &[1, 6]),
        (0, &[0, 9], &[9, 1]),
        (0, &[1, 24], &[i64::MAX, 1]),
        (0, &[24], &[0]),
    ] {
        assert!(read(offset, shape, strides).is_ok(), "{offset} {shape:?} {strides:?}");
    }
    for (offset, shape, strides) in [
        (1, &[24][..], &[1][..]),
        (24, &[], &[]),
        (0, &[4, 6], &[7, 1]),
        (0, &[2, 2], &[i64::MAX, i64::MAX]),
        (0, &[3, 2], &[i64::MAX, 1]),
        // More numbers than there are, all of them the same one.
        (0, &[25], &[0]),
        (0, &[i64::MAX, i64::MAX], &[0, 0]),
    ] {
        match read(offset, shape, strides) {
            Err(PickleError::Malformed { reason, .. }) => assert_eq!(reason, beyond),
            other => panic!("{offset} {shape:?} {strides:?}: {other:?}"),
        }
    }
    for (offset, shape, strides) in [
        (-1, &[1][..], &[1][..]),
        (0, &[-1], &[1]),
        (0, &[1], &[-1]),
        (0, &[1, 1], &[1]),
        (0, &[1; 9], &[1; 9]),
    ] {
        assert!(read(offset, shape, strides).is_err(), "{offset} {shape:?} {strides:?}");
    }
}

#[test]
fn what_is_cut_short_or_goes_on_is_no_pickle() {
    let whole = dictionary(|p| p.text("a.weight").tensor(FLOATS, 2, &[2, 3], &[4, 1]));
    for length in 0..whole.len() {
        assert!(Pickle::read(&whole[..length]).is_err(), "of {length} bytes");
    }
    let mut longer = whole;
    longer.push(b'.');
    assert_eq!(malformed(&longer), "something follows its end");
    assert_eq!(malformed(b"\x80\x02}}."), "values are left over at its end");
    assert_eq!(malformed(b"\x80\x02(}."), "values are left over at its end");
    assert_eq!(malformed(b"\x80\x02K\x01."), "what it holds is no dictionary");
    assert_eq!(malformed(b"\x80\x02."), "the stack is empty");
    assert_eq!(malformed(b"}."), "it is no pickle of protocol 2 to 5");
    assert_eq!(malformed(b"\x80\x01}."), "it is no pickle of protocol 2 to 5");
    assert_eq!(malformed(b"\x80\x04\x95\xff\0\0\0\0\0\0\0}."), "it is cut short");
}

#[test]
fn nothing_below_a_mark_is_taken() {
    for pickle in [&b"\x80\x02}N(s."[..], b"\x80\x02N(\x85.", b"\x80\x02}(b.", b"\x80\x02N(q\0."] {
        assert_eq!(malformed(pickle), "the stack is empty");
    }
    assert_eq!(malformed(b"\x80\x02u."), "there is no mark");
    assert_eq!(malformed(b"\x80\x02}(Nu."), "entries belong to no dictionary");
    assert_eq!(malformed(b"\x80\x02N(NNu."), "entries belong to no dictionary");
    assert_eq!(malformed(b"\x80\x02NNa."), "something is added to what is no list");
}

#[test]
fn nesting_costs_no_stack() {
    let deep = [&b"\x80\x02}"[..], &b"\x85".repeat(200_000), b"."].concat();
    assert_eq!(malformed(&deep), "what it holds is no dictionary");
    let marks = [&b"\x80\x02"[..], &b"(".repeat(200_000), &b"t".repeat(200_000), b"."].concat();
    assert_eq!(malformed(&marks), "what it holds is no dictionary");
}

#[test]
fn more_than_any_checkpoint_has_is_refused() {
    let many = |code: &[u8], times: usize| [&b"\x80\x02}"[..], &code.repeat(times)].concat();
    assert_eq!(too_large(&many(b"N", MOST_VALUES + 1)), "values at a time");
    assert_eq!(too_large(&many(b"(", MOST_VALUES + 1)), "marks");
    assert_eq!(too_large(&many(b"}", MOST_VALUES + 1)), "dictionaries");
    assert_eq!(too_large(&many(b"\x94", MOST_VALUES + 1)), "remembered values");
    assert_eq!(too_large(&many(b"NNs", MOST_VALUES + 1)), "entries");
    assert_eq!(too_large(&many(b"\x85", MOST_VALUES + 1)), "parts of tuples");
    assert_eq!(
        too_large(&Pickler::new().text(&"x".repeat(LONGEST_TEXT + 1)).stop()),
        "characters in a text"
    );
    assert_eq!(too_large(b"\x80\x02\x8a\x09"), "digits in a number");
    assert_eq!(too_large(&vec![0x80; LONGEST_PICKLE + 1]), "bytes");
}

#[test]
fn whole_numbers_of_any_length_have_their_sign() {
    fn number(bytes: &[u8]) -> Value<'_> {
        let mut machine = Machine::new(bytes);
        machine.long().unwrap();
        machine.pop().unwrap()
    }
    assert_eq!(number(b"\x00"), Value::Int(0));
    assert_eq!(number(b"\x01\xff"), Value::Int(-1));
    assert_eq!(number(b"\x02\xff\x00"), Value::Int(255));
    assert_eq!(number(b"\x03\x00\x00\x80"), Value::Int(-8_388_608));
    assert_eq!(number(b"\x08\0\0\0\0\0\0\0\x80"), Value::Int(i64::MIN));
}

#[test]
fn the_same_is_read_of_the_newer_protocols() {
    let frame = b"\x95\x05\0\0\0\0\0\0\0";
    let pickle = Pickler(vec![0x80, 4])
        .raw(frame)
        .raw(b"}\x94\x8c\x01a\x94\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94s")
        .stop();
    let pickle = Pickle::read(&pickle).unwrap();
    assert_eq!(pickle.entries(pickle.root()), [("a", Entry::Dictionary(1))]);
}

/// Instructions, mostly sound ones, in any order.
fn instructions() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::prelude::*;
    let pieces: Vec<Vec<u8>> = [
        &b"}"[..],
        b"]",
        b")",
        b"(",
        b"t",
        b"\x85",
        b"\x86",
        b"\x87",
        b"s",
        b"u",
        b"a",
        b"e",
        b"R",
        b"b",
        b"Q",
        b"N",
        b"\x88",
        b"K\x02",
        b"q\x01",
        b"h\x01",
        b"\x94",
        b".",
        b"X\x01\0\0\0a",
        b"X\x07\0\0\0storage",
        b"X\x09\0\0\0_metadata",
        b"ccollections\nOrderedDict\n",
        b"ctorch\nFloatStorage\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch._utils\n_rebuild_parameter\n",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    let tensor = Pickler(Vec::new()).tensor(FLOATS, 0, &[2, 3], &[3, 1]).0;
    let piece = prop_oneof![
        8 => proptest::sample::select(pieces),
        1 => Just(tensor),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = Pickle::read(&bytes);
        let _ = Pickle::read(&[&b"\x80\x02"[..], &bytes].concat());
    }

    #[test]
    fn no_instructions_panic_and_what_is_read_holds_together(body in instructions()) {
        let pickle = [&b"\x80\x02}"[..], &body, b"."].concat();
        if let Ok(pickle) = Pickle::read(&pickle) {
            for (_, entry) in pickle.entries(pickle.root()) {
                if let Entry::Tensor(place) = entry {
                    proptest::prop_assert!(pickle.tensor(*place).is_some());
                }
            }
        }
    }
}
