//! Who is interpreted into what, whose sound is on a channel, and what of it is told to whom.

use std::sync::Arc;

use signaling::house::{Caller, HouseError, Role};
use signaling::wire::{ChangeSession, EventKind};

use super::super::orders::Order;
use super::super::testing::{World, caller, channel, codes, interpreter, listener, speaker};
use super::*;
use crate::speaker::Outlet;

const HOLD: Duration = Duration::from_secs(10);

fn carry(channel: ChannelId, source: impl Into<Option<PeerId>>) -> Order {
    Order::Carry { channel, source: source.into() }
}

fn tune(peer: PeerId, channel: ChannelId, gain: f32) -> Order {
    let programme = Programme::Channel { channel, original: GainStep::nearest(gain) };
    Order::Tune { peer, programme, own: peer }
}

fn taken_by(channel: &str, interpreter: Option<&str>) -> EventKind {
    let interpreter = interpreter.map(str::to_owned);
    EventKind::ChannelInterpreter { channel: channel.to_owned(), interpreter }
}

#[test]
fn a_channel_is_interpreted_once_however_many_listen_and_not_at_all_when_nobody_does() {
    let mut world = World::conference(&["en", "es", "fr"]);
    let anna = world.join(&speaker("anna", "en"));
    assert_eq!(world.room().wants(anna), Want::Nothing);
    for listens in ["a", "b", "c"] {
        world.join(&listener(listens, "es"));
    }
    world.join(&listener("d", "floor"));
    world.join(&listener("e", "floor"));
    assert_eq!(world.targets(anna), codes(&["es"]));
    let french = world.join(&listener("f", "fr"));
    assert_eq!(world.targets(anna), codes(&["es", "fr"]));
    assert!(world.room().targets(anna).iter().all(|(_, outlets)| outlets.len() == 1));
    world.leave(french);
    assert_eq!(world.targets(anna), codes(&["es"]));
}

#[test]
fn a_conference_of_one_language_costs_no_inference() {
    let mut world = World::conference(&["en", "es"]);
    let anna = world.join(&caller("anna", "en"));
    let ben = world.join(&caller("ben", "en"));
    for peer in [anna, ben] {
        assert!(world.targets(peer).is_empty());
        assert_eq!(world.room().wants(peer), Want::Presence, "their sound goes into the channel");
    }
    let beto = world.join(&speaker("beto", "es"));
    assert_eq!(world.targets(beto), codes(&["en"]));
}

#[test]
fn nobody_is_interpreted_for_themselves() {
    let mut world = World::conference(&["en", "es"]);
    let anna = world.join(&Caller { hear: "es".to_owned(), ..caller("anna", "en") });
    assert_eq!(world.room().wants(anna), Want::Nothing);
    world.join(&listener("beto", "es"));
    assert_eq!(world.targets(anna), codes(&["es"]));
}

#[test]
fn who_listens_in_one_session_and_speaks_in_another_is_told_to_the_plane_as_one_person() {
    let mut world = World::conference(&["en", "es"]);
    let floor = |peer, own| Order::Tune { peer, programme: Programme::Floor, own };
    let listens = world.join(&listener("anna", "floor"));
    assert_eq!(world.orders(), [floor(listens, listens)]);
    let speaks = world.join(&speaker("anna", "en"));
    let on_floor = Order::OnFloor { peer: speaks, on_floor: true };
    assert_eq!(world.orders(), [on_floor, floor(listens, speaks)]);
    world.join(&speaker("ben", "en"));
    assert!(!world.orders().iter().any(|order| matches!(order, Order::Tune { .. })));
    world.leave(speaks);
    assert_eq!(world.orders(), [floor(listens, listens)]);
}

#[test]
fn a_recorded_channel_is_interpreted_although_nobody_listens_and_plays_nothing() {
    let mut world = World::with_booths(&["en", "es", "fr"], |booth| {
        booth.is_recorded = booth.language == Language::ES;
    });
    let anna = world.join(&speaker("anna", "en"));
    assert_eq!(world.room().wants(anna), Want::Words);
    assert_eq!(world.room().targets(anna), [(Language::ES, Arc::from([]))]);
    assert!(!world.orders().iter().any(|order| matches!(order, Order::Open(_))));
    world.join(&listener("l", "es"));
    let spanish = Arc::from([Outlet::Channel(channel(2))]);
    assert_eq!(world.room().targets(anna), [(Language::ES, spanish)]);
    let beto = world.join(&speaker("beto", "es"));
    assert_eq!(world.room().wants(beto), Want::Words, "what is said in it is recorded too");
    assert!(world.room().targets(beto).is_empty());
}

#[test]
fn a_channel_takes_relay_from_a_human_while_there_is_one() {
    let mut world = World::with_booths(&["en", "es", "fr"], |booth| {
        booth.relay = (booth.language == Language::ES).then_some(Language::EN);
    });
    let jun = world.join(&speaker("jun", "ja"));
    let amy = world.join(&speaker("amy", "en"));
    world.join(&listener("a", "es"));
    world.join(&listener("b", "fr"));
    let ines = world.join(&interpreter("ines", "en"));
    assert_eq!(world.targets(jun), codes(&["es", "fr"]), "she has not begun");
    assert_eq!(world.room().wants(ines), Want::Words, "although nobody listens to hers");
    world.start(ines);
    assert_eq!(world.targets(jun), codes(&["fr"]));
    assert_eq!(world.targets(ines), codes(&["es"]));
    assert_eq!(world.targets(amy), codes(&["es", "fr"]), "her English needs no interpreter");
    world.leave(ines);
    assert_eq!(world.targets(jun), codes(&["es", "fr"]));
}

#[test]
fn a_channel_opens_with_its_first_listener_and_closes_behind_its_last() {
    let mut world = World::conference(&["en", "es"]);
    let (es, original) = (channel(2), 0.2);
    let anna = world.join(&speaker("anna", "en"));
    assert_eq!(world.orders(), [Order::OnFloor { peer: anna, on_floor: true }]);
    let first = world.join(&listener("a", "es"));
    assert_eq!(world.orders(), [Order::Open(es), tune(first, es, original)]);
    let second = world.join(&Caller { original_gain: Some(0.37), ..listener("b", "es") });
    assert_eq!(world.orders(), [tune(second, es, 0.4)]);
    world.leave(first);
    assert!(world.orders().is_empty());
    world.leave(second);
    assert_eq!(world.orders(), [Order::Close(es)]);
}

#[test]
fn a_channel_that_could_not_be_opened_is_opened_with_the_next_change() {
    let mut world = World::conference(&["en", "es"]);
    let listens = world.join(&listener("a", "es"));
    let orders = world.orders();
    world.room().not_opened(channel(2));
    assert_eq!(world.orders(), orders);
    assert_eq!(orders, [Order::Open(channel(2)), tune(listens, channel(2), 0.2)]);
}

#[test]
fn a_listener_changes_channel_and_gain_without_anybody_elses_notice() {
    let mut world = World::conference(&["en", "es", "fr"]);
    let (es, fr) = (channel(2), channel(3));
    world.join(&listener("a", "es"));
    let moves = world.join(&listener("b", "es"));
    world.orders();
    let change = |world: &mut World, channel: Option<&str>, original_gain| {
        let channel = channel.map(str::to_owned);
        let change = ChangeSession { channel, original_gain };
        world.room().change_session("session-2", &change).expect("allowed");
        world.orders()
    };
    assert_eq!(change(&mut world, Some("fr"), None), [Order::Open(fr), tune(moves, fr, 0.2)]);
    assert_eq!(change(&mut world, None, Some(0.0)), [tune(moves, fr, 0.0)]);
    assert!(change(&mut world, None, Some(0.04)).is_empty(), "the same step");
    let back = change(&mut world, Some("es-MX"), Some(1.0));
    assert_eq!(back, [tune(moves, es, 1.0), Order::Close(fr)]);
    let floor = Order::Tune { peer: moves, programme: Programme::Floor, own: moves };
    assert_eq!(change(&mut world, Some("floor"), None), [floor]);
    assert_eq!(world.room().participant("b").expect("there").channel.as_deref(), Some("floor"));
}

#[test]
fn each_speaker_keeps_a_voice_of_their_own_and_one_they_ask_for_wins() {
    let mut world = World::conference(&["en", "es"]);
    let with = |caller: Caller, voice: &str| Caller { voice: Some(voice.to_owned()), ..caller };
    let voice = |world: &mut World, peer| world.room().voices(peer)[&Language::ES].clone();
    let first = world.join(&speaker("a", "en"));
    let second = world.join(&with(speaker("b", "en"), "es-special"));
    let third = world.join(&with(speaker("c", "en"), "en-2"));
    let fourth = world.join(&speaker("d", "ja"));
    assert_eq!(voice(&mut world, first), "es-1");
    assert_eq!(voice(&mut world, second), "es-special");
    assert_eq!(voice(&mut world, third), "es-3", "the wish speaks another language");
    assert_eq!(world.room().voices(third)[&Language::EN], "en-2");
    assert_eq!(voice(&mut world, fourth), "es-1", "there are three");
    world.leave(second);
    world.leave(third);
    world.join(&speaker("e", "en"));
    let third = world.join(&speaker("c", "en"));
    assert_eq!(voice(&mut world, third), "es-3", "the same when they come back");
}

#[test]
fn voices_are_fetched_when_the_first_listener_comes_and_for_each_new_speaker() {
    let mut world = World::conference(&["en", "es"]);
    let prepared = |world: &mut World| -> Vec<String> {
        let orders = world.room().settle();
        let voice = |order: &Order| match order {
            Order::Prepare { voice, .. } => voice.clone(),
            _ => None,
        };
        orders.iter().filter_map(voice).collect()
    };
    world.join(&speaker("a", "en"));
    assert!(prepared(&mut world).is_empty());
    world.join(&listener("l", "es"));
    assert_eq!(prepared(&mut world), ["es-1"]);
    world.join(&speaker("b", "en"));
    assert_eq!(prepared(&mut world), ["es-2"]);
    world.join(&speaker("c", "es"));
    world.join(&speaker("d", "ja"));
    assert!(prepared(&mut world).is_empty(), "c is heard as they are, d like a");
}

#[test]
fn who_speaks_the_channels_language_is_heard_on_it_as_they_are() {
    let mut world = World::conference(&["en", "es"]);
    let en = channel(1);
    let anna = world.join(&speaker("anna", "en"));
    let beto = world.join(&speaker("beto", "es"));
    let ben = world.join(&speaker("ben", "en"));
    world.join(&listener("l", "en"));
    let carries = |world: &mut World| -> Vec<Order> {
        let orders = world.orders();
        orders.into_iter().filter(|order| matches!(order, Order::Carry { .. })).collect()
    };
    assert_eq!(carries(&mut world), [carry(en, anna)], "so that her first word is whole");
    world.start(beto);
    assert!(carries(&mut world).is_empty(), "the machine has nothing to say yet");
    world.room().machine_wants(en, true);
    assert_eq!(carries(&mut world), [carry(en, None)]);
    world.start(ben);
    assert_eq!(carries(&mut world), [carry(en, ben)], "what is said live cannot wait");
    world.start(anna);
    assert!(carries(&mut world).is_empty(), "ben began first");
    world.stop(ben);
    assert_eq!(carries(&mut world), [carry(en, anna)]);
    world.stop(anna);
    assert_eq!(carries(&mut world), [carry(en, None)], "the machine goes on");
    world.room().machine_wants(en, false);
    assert_eq!(carries(&mut world), [carry(en, anna)], "who spoke last");
    world.room().mute("anna", true).expect("there");
    assert_eq!(carries(&mut world), [carry(en, ben)]);
    world.leave(ben);
    assert_eq!(carries(&mut world), [carry(en, None)]);
}

#[test]
fn who_is_muted_leaves_the_floor_and_every_channel() {
    let mut world = World::conference(&["en", "es"]);
    let anna = world.join(&speaker("anna", "en"));
    world.join(&listener("a", "en"));
    world.join(&listener("b", "es"));
    world.orders();
    world.room().mute("anna", true).expect("there");
    assert_eq!(world.room().wants(anna), Want::Nothing);
    assert!(world.targets(anna).is_empty());
    let off = Order::OnFloor { peer: anna, on_floor: false };
    assert_eq!(world.orders(), [off, carry(channel(1), None)]);
}

#[test]
fn a_human_takes_the_channel_over_while_they_speak_and_gives_it_back_after_a_silence() {
    let mut world = World::conference(&["en", "fr"]);
    let fr = channel(2);
    let anna = world.join(&speaker("anna", "en"));
    world.join(&listener("l", "fr"));
    let ines = world.join(&interpreter("ines", "fr"));
    assert!(world.orders().contains(&carry(fr, ines)), "her first word is whole");
    assert_eq!(world.targets(anna), codes(&["fr"]), "she has not said anything");
    assert!(!world.orders().iter().any(|order| matches!(order, Order::OnFloor { .. })));
    world.room().machine_wants(fr, true);
    assert_eq!(world.orders(), [carry(fr, None)]);
    world.told();

    world.start(ines);
    assert_eq!(world.told(), [taken_by("fr", Some("ines"))]);
    assert_eq!(world.orders(), [Order::Silence(fr), carry(fr, ines)]);
    assert!(world.targets(anna).is_empty(), "the machine has nothing to do");
    assert_eq!(world.room().wants(ines), Want::Words);
    assert!(world.targets(ines).is_empty(), "and what she says is recognised alone");
    world.room().machine_wants(fr, false);

    let tick = |world: &mut World| {
        let now = world.now;
        world.room().tick(now, HOLD);
        world.told()
    };
    world.pass(60);
    assert!(tick(&mut world).is_empty(), "she speaks");
    world.stop(ines);
    world.pass(9);
    assert!(tick(&mut world).is_empty());
    world.start(ines);
    world.stop(ines);
    world.pass(9);
    assert!(tick(&mut world).is_empty(), "she went on");
    assert!(world.orders().is_empty());
    world.pass(1);
    assert_eq!(tick(&mut world), [taken_by("fr", None)]);
    assert_eq!(world.targets(anna), codes(&["fr"]));
}

#[test]
fn the_machine_has_the_channel_back_at_once_when_the_human_leaves_or_is_muted() {
    let mut world = World::conference(&["en", "fr"]);
    world.join(&listener("l", "fr"));
    let ines = world.join(&interpreter("ines", "fr"));
    world.start(ines);
    world.orders();
    world.told();
    world.leave(ines);
    let told = world.told();
    assert_eq!(told[0], taken_by("fr", None));
    assert_eq!(world.orders(), [carry(channel(2), None)]);
    let ines = world.join(&interpreter("ines", "fr"));
    world.start(ines);
    world.told();
    world.room().mute("ines", true).expect("there");
    let told = world.told();
    assert_eq!(told[0], taken_by("fr", None));
    assert!(matches!(told[1], EventKind::ParticipantMuted { .. }));
}

#[test]
fn a_channel_has_one_human_interpreter_at_a_time() {
    let mut world = World::conference(&["en", "fr"]);
    world.join(&interpreter("ines", "fr"));
    match world.reserve(&interpreter("jean", "fr")) {
        Err(HouseError::ChannelTaken { channel, by }) => {
            assert_eq!((channel.as_str(), by.as_str()), ("fr", "ines"));
        }
        other => panic!("{other:?}"),
    }
    let shown = world.room().participant("ines").expect("there");
    assert_eq!(shown.interprets.as_deref(), Some("fr"));
    let unknown = world.reserve(&interpreter("jean", "de"));
    assert!(matches!(unknown, Err(HouseError::NoSuchChannel { .. })));
}

#[test]
fn a_relay_is_a_channel_of_the_room_and_not_ones_own() {
    let mut world = World::conference(&["en", "fr"]);
    let from = |relay: &str| {
        let (channel, relay) = (Some("fr".to_owned()), Some(relay.to_owned()));
        Caller { role: Role::Publish { channel, relay }, ..interpreter("ines", "fr") }
    };
    assert!(matches!(world.reserve(&from("fr")), Err(HouseError::Invalid(_))));
    assert!(matches!(world.reserve(&from("de")), Err(HouseError::NoSuchChannel { .. })));
    world.join(&from("en"));
    let shown = world.room().participant("ines").expect("there");
    assert_eq!(shown.relay.as_deref(), Some("en"), "whoever listens may want to know");
}

#[test]
fn a_floor_speaker_is_heard_on_their_channel_while_its_human_is_silent() {
    let mut world = World::conference(&["en", "fr"]);
    let fr = channel(2);
    world.join(&listener("l", "fr"));
    let ines = world.join(&interpreter("ines", "fr"));
    let jean = world.join(&speaker("jean", "fr"));
    world.orders();
    world.start(jean);
    assert_eq!(world.orders(), [carry(fr, jean)]);
    world.start(ines);
    assert_eq!(world.orders(), [Order::Silence(fr), carry(fr, ines)]);
    world.stop(ines);
    assert_eq!(world.orders(), [carry(fr, jean)]);
    world.stop(jean);
    assert_eq!(world.orders(), [carry(fr, ines)]);
}

#[test]
fn a_channel_that_closes_forgets_that_the_machine_had_something_to_say() {
    let mut world = World::conference(&["en", "es"]);
    let ben = world.join(&speaker("ben", "en"));
    let listens = world.join(&listener("l", "en"));
    world.room().machine_wants(channel(1), true);
    world.orders();
    world.leave(listens);
    assert_eq!(world.orders(), [Order::Close(channel(1))]);
    let listens = world.join(&listener("l", "en"));
    let again = [Order::Open(channel(1)), carry(channel(1), ben), tune(listens, channel(1), 0.2)];
    assert_eq!(world.orders(), again);
}
