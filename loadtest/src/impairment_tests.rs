//! The model does what its numbers say, and the same again for the same seed.

use proptest::prelude::*;

use super::*;

const FRAME: Duration = Duration::from_millis(20);
const PACKETS: u32 = 20_000;

/// Sends a packet every 20 ms; gives number, delay and order of what arrives.
fn arrivals(conditions: Conditions, seed: u64, packets: u32) -> (Vec<(u32, Duration)>, Tally) {
    let start = Instant::now();
    let mut link = Link::new(conditions, seed);
    let mut arrived = Vec::new();
    let mut receive = |link: &mut Link<u32>, now: Instant| {
        while let Some((at, number)) = link.receive(now) {
            arrived.push((number, at - (start + FRAME * number)));
        }
    };
    for number in 0..packets {
        let now = start + FRAME * number;
        receive(&mut link, now);
        link.send(now, number);
    }
    receive(&mut link, start + FRAME * packets + Duration::from_secs(10));
    (arrived, link.tally())
}

/// Lengths of the gaps in the numbers that arrived in order.
fn gaps(arrived: &[(u32, Duration)]) -> Vec<u32> {
    arrived.windows(2).map(|pair| pair[1].0 - pair[0].0 - 1).filter(|length| *length > 0).collect()
}

fn share(count: u64) -> f64 {
    count as f64 / f64::from(PACKETS)
}

#[test]
fn a_clean_path_changes_nothing() {
    let (arrived, tally) = arrivals(Preset::Clean.conditions(), 1, 100);
    assert_eq!(arrived, (0..100).map(|number| (number, Duration::ZERO)).collect::<Vec<_>>());
    assert_eq!(tally, Tally { sent: 100, ..Tally::default() });
}

#[test]
fn the_share_lost_is_the_one_asked_for_at_random_and_in_bursts() {
    for wanted in [0.02, 0.05, 0.1] {
        for loss in
            [Loss::Random { share: wanted }, Loss::Bursts { share: wanted, mean_length: 3.0 }]
        {
            let conditions = Conditions { loss, ..Conditions::default() };
            let (arrived, tally) = arrivals(conditions, 5, PACKETS);
            assert_eq!(arrived.len() as u64 + tally.lost, u64::from(PACKETS));
            let lost = share(tally.lost);
            assert!((lost - wanted).abs() < 0.2 * wanted, "{loss:?} lost {lost}");
        }
    }
}

#[test]
fn bursts_are_as_long_as_asked_for() {
    for (loss, expected) in [
        (Loss::Random { share: 0.05 }, 1.0 / 0.95),
        (Loss::Bursts { share: 0.05, mean_length: 1.5 }, 1.5),
        (Loss::Bursts { share: 0.05, mean_length: 4.0 }, 4.0),
    ] {
        let conditions = Conditions { loss, ..Conditions::default() };
        let gaps = gaps(&arrivals(conditions, 6, PACKETS).0);
        let mean = gaps.iter().sum::<u32>() as f64 / gaps.len() as f64;
        assert!((mean - expected).abs() < 0.12 * expected, "{loss:?}: {mean} in a row");
    }
}

#[test]
fn jitter_delays_within_its_bound_and_keeps_the_order() {
    let ms = Duration::from_millis;
    let conditions = Conditions { delay: ms(50), jitter: ms(80), ..Conditions::default() };
    let (arrived, _) = arrivals(conditions, 7, PACKETS);
    assert!(arrived.windows(2).all(|pair| pair[0].0 < pair[1].0));
    let delays = arrived.iter().map(|(_, delay)| *delay);
    assert!(delays.clone().min() < Some(ms(55)) && delays.clone().max() > Some(ms(125)));
    assert!(delays.clone().all(|delay| delay >= ms(50) && delay <= ms(130)));
}

#[test]
fn held_back_packets_are_passed_by_others_and_some_arrive_twice() {
    let ms = Duration::from_millis;
    let conditions = Conditions {
        reordered: 0.05,
        held_back: ms(45),
        duplicated: 0.02,
        ..Conditions::default()
    };
    let (arrived, tally) = arrivals(conditions, 8, PACKETS);
    assert!((share(tally.reordered) - 0.05).abs() < 0.01, "{tally:?}");
    assert!((share(tally.duplicated) - 0.02).abs() < 0.005, "{tally:?}");
    assert_eq!(arrived.len() as u64, u64::from(PACKETS) + tally.duplicated);
    // Two packets pass in 45 ms, unless one of them is held back as well.
    let backwards = arrived.windows(2).filter(|pair| pair[1].0 < pair[0].0).count() as u64;
    assert!(backwards > tally.reordered * 8 / 10 && backwards <= tally.reordered);
}

#[test]
fn a_full_link_drops_instead_of_growing() {
    let conditions = Conditions { delay: Duration::from_secs(60), ..Conditions::default() };
    let mut link = Link::new(conditions, 9);
    let now = Instant::now();
    for number in 0..10_000u32 {
        link.send(now, number);
    }
    assert_eq!(link.tally().lost, 10_000 - MAX_IN_FLIGHT as u64);
}

proptest! {
    #[test]
    fn the_same_seed_gives_the_same_fate_and_nothing_arrives_before_it_was_sent(
        seed in any::<u64>(),
        loss in 0.0..0.9f64,
        mean_length in 0.5..10.0f64,
        jitter_ms in 0u64..200,
        reordered in 0.0..1.0f64,
        duplicated in 0.0..1.0f64,
    ) {
        let conditions = Conditions {
            loss: Loss::Bursts { share: loss, mean_length },
            delay: Duration::from_millis(3),
            jitter: Duration::from_millis(jitter_ms),
            reordered,
            held_back: Duration::from_millis(60),
            duplicated,
            rate: None,
        };
        let (arrived, tally) = arrivals(conditions, seed, 300);
        prop_assert_eq!(&arrivals(conditions, seed, 300).0, &arrived);
        prop_assert!(arrived.iter().all(|(_, delay)| *delay >= conditions.delay));
        prop_assert_eq!(arrived.len() as u64, 300 - tally.lost + tally.duplicated);
    }
}

#[test]
fn a_path_with_a_rate_spreads_a_burst_and_drops_what_would_wait_too_long() {
    // 100 bytes take 10 ms.
    let conditions = Conditions { rate: Some(80_000), ..Conditions::default() };
    let mut link = Link::new(conditions, 1);
    let start = Instant::now();
    for number in 0..60 {
        link.send_sized(start, 100, number);
    }
    let end = start + Duration::from_secs(2);
    let arrived: Vec<_> = std::iter::from_fn(|| link.receive(end)).collect();
    assert_eq!(arrived[0], (start + Duration::from_millis(10), 0));
    assert_eq!(arrived[9], (start + Duration::from_millis(100), 9));
    // The queue holds half a second, and the one that is being sent.
    assert_eq!((arrived.len(), link.tally().lost), (51, 9));
}
