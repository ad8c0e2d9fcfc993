use super::*;

fn autoregressive() -> AutoregressiveSizes {
    AutoregressiveSizes {
        layers: 30,
        width: 1024,
        heads: 16,
        text_tokens: 256,
        mel_codes: 8194,
        text_positions: 404,
        mel_positions: 608,
        start_text_token: 255,
        stop_text_token: 0,
        start_mel_code: 8192,
        stop_mel_code: 8193,
        mel_bands: 80,
        voice_layers: 6,
    }
}

fn diffusion() -> DiffusionSizes {
    DiffusionSizes {
        width: 1024,
        layers: 10,
        last_layers: 3,
        time_layers: 3,
        latent_layers: 4,
        voice_layers: 5,
        heads: 16,
        latent_width: 1024,
        mel_bands: 100,
        outputs: 200,
    }
}

fn clvp() -> ClvpSizes {
    ClvpSizes {
        text_tokens: 256,
        speech_codes: 8192,
        text_width: 768,
        speech_width: 768,
        latent_width: 768,
        text_layers: 20,
        speech_layers: 20,
        text_heads: 12,
        speech_heads: 12,
        text_inner: 1536,
        speech_inner: 1536,
        rotary_angles: 16,
    }
}

fn univnet() -> UnivnetSizes {
    UnivnetSizes {
        noise: 64,
        channels: 32,
        strides: vec![8, 8, 4],
        dilations: vec![1, 3, 9, 27],
        mel_bands: 100,
        hidden: 64,
    }
}

fn hifigan() -> HifiganSizes {
    HifiganSizes {
        latent_width: 1024,
        voice_width: 1024,
        channels: 512,
        strides: vec![8, 8, 2, 2],
        stride_kernels: vec![16, 16, 4, 4],
        kernels: vec![3, 7, 11],
        dilations: vec![1, 3, 5],
    }
}

fn parameters(shapes: &Shapes) -> usize {
    shapes.values().map(|shape| shape.iter().product::<usize>()).sum()
}

/// As counted on the reference implementation.
#[test]
fn the_published_sizes_have_the_published_parameters() {
    let tensors = autoregressive().tensors();
    assert_eq!((tensors.len(), parameters(&tensors)), (410, 421_526_786));
    assert_eq!(AutoregressiveSizes::of(&tensors), Ok(autoregressive()));

    let tensors = diffusion().tensors();
    assert_eq!(DiffusionSizes::of(&tensors), Ok(diffusion()));
    // The reference has a table of codes, three layers of attention and a head of mel beside it.
    let attention = 2 * 1024 + 3 * (1024 + 1) * 1024 + (1024 + 1) * 1024 + 32 * 16;
    let unused = 8193 * 1024 + 3 * attention + (3 * 1024 + 1) * 100;
    assert_eq!(parameters(&tensors), 292_334_380 - unused);
    assert_eq!(tensors.len(), 359 - (1 + 3 * 7 + 2));

    let tensors = clvp().tensors();
    assert_eq!((tensors.len(), parameters(&tensors)), (451, 243_846_145 + 32));
    assert_eq!(ClvpSizes::of(&tensors), Ok(clvp()));

    // A magnitude less for each row of a weight under weight norm.
    let tensors = univnet().tensors();
    let rows = |(name, shape): (&String, &Vec<usize>)| {
        if name.ends_with(".weight") && name != "cond_layer.weight" { shape[0] } else { 0 }
    };
    let magnitudes: usize = tensors.iter().map(rows).sum();
    assert_eq!(parameters(&tensors) + magnitudes, 14_865_506);
    assert_eq!(tensors.len() * 3 / 2, 132);
    assert_eq!(UnivnetSizes::of(&tensors), Ok(univnet()));

    let tensors = hifigan().tensors();
    let magnitudes: usize = tensors.iter().map(rows).sum();
    assert_eq!(parameters(&tensors) + magnitudes, 17_844_226);
    assert_eq!((tensors.len() - 2) * 3 / 2 + 2, 236);
    assert_eq!(HifiganSizes::of(&tensors), Ok(hifigan()));

    for (width, count) in [(1024, 6_297_600), (2048, 25_178_112)] {
        let sizes = RandomVoiceSizes { width, layers: 6 };
        let tensors = sizes.tensors();
        assert_eq!((tensors.len(), parameters(&tensors)), (12, count));
        assert_eq!(RandomVoiceSizes::of(&tensors), Ok(sizes));
    }
}

#[test]
fn a_model_of_another_vocabulary_is_known_by_its_tables() {
    let sizes = AutoregressiveSizes {
        text_tokens: 513,
        start_text_token: 512,
        text_positions: 604,
        ..autoregressive()
    };
    assert_eq!(AutoregressiveSizes::of(&sizes.tensors()), Ok(sizes));
}

#[test]
fn a_tensor_too_few_too_many_or_of_another_shape_is_named() {
    let sizes = univnet();
    let whole = sizes.tensors();
    for name in whole.keys() {
        let mut lacking = whole.clone();
        lacking.remove(name);
        assert!(UnivnetSizes::of(&lacking).is_err(), "without {name}");
        let mut odd = whole.clone();
        odd.get_mut(name).unwrap().push(1);
        assert!(UnivnetSizes::of(&odd).is_err(), "{name} of another shape");
    }
    let mut lacking = whole.clone();
    lacking.remove("conv_post.1.bias");
    let missing = SizesError::Missing("conv_post.1.bias".to_owned());
    assert_eq!(UnivnetSizes::of(&lacking), Err(missing));
    let mut more = whole;
    more.insert("a.weight".to_owned(), vec![1]);
    more.insert("b.weight".to_owned(), vec![1]);
    let unexpected = SizesError::Unexpected { name: "a.weight".to_owned(), others: 1 };
    assert_eq!(UnivnetSizes::of(&more), Err(unexpected));
}

#[test]
fn absurd_sizes_are_errors() {
    for size in [0, usize::MAX, usize::MAX / 2] {
        let mut tensors = hifigan().tensors();
        tensors.insert("conv_pre.weight".to_owned(), vec![size; 3]);
        assert!(HifiganSizes::of(&tensors).is_err());
        let mut tensors = autoregressive().tensors();
        tensors.insert("text_embedding.weight".to_owned(), vec![size, size]);
        assert!(AutoregressiveSizes::of(&tensors).is_err());
    }
    let empty = Shapes::new();
    assert!(AutoregressiveSizes::of(&empty).is_err());
    assert!(DiffusionSizes::of(&empty).is_err());
    assert!(ClvpSizes::of(&empty).is_err());
    assert!(UnivnetSizes::of(&empty).is_err());
    assert!(HifiganSizes::of(&empty).is_err());
    assert!(RandomVoiceSizes::of(&empty).is_err());
}
