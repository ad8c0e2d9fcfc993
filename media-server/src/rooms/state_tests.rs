//! Who may come in, who is told of it, and when a room is over.

use signaling::house::Role;
use signaling::wire::{ChangeSession, Grants};

use super::super::orders::Level;
use super::super::room::Want;
use super::super::testing::{World, caller, interpreter, language, listener, speaker};
use super::*;
use crate::speaker::Outlet;

fn routes(world: &mut World) -> BTreeMap<(u64, u64), (f32, bool)> {
    let orders = world.orders();
    let route = |order: &Order| match order {
        Order::Route { listener, source, level: Level { gain, duck } } => {
            Some(((listener.0, source.0), (*gain, *duck)))
        }
        _ => None,
    };
    orders.iter().filter_map(route).collect()
}

#[test]
fn a_call_interprets_each_for_the_other() {
    let mut world = World::call();
    let anna = world.join(&caller("anna", "en"));
    let beto = world.join(&caller("beto", "es"));
    let targets = world.room().targets(anna);
    assert_eq!(targets.len(), 1);
    assert_eq!(targets[0].0, Language::ES);
    assert_eq!(&*targets[0].1, [Outlet::Peer(beto)]);
    assert_eq!(routes(&mut world), [((1, 2), (0.2, true)), ((2, 1), (0.2, true))].into());
    assert!(world.orders().is_empty(), "told once");
}

#[test]
fn one_language_on_both_sides_costs_no_inference_and_is_forwarded_at_full_gain() {
    let mut world = World::call();
    let anna = world.join(&caller("anna", "en"));
    world.join(&caller("ben", "en-GB"));
    assert!(world.room().targets(anna).is_empty());
    assert_eq!(world.room().wants(anna), Want::Nothing);
    assert_eq!(routes(&mut world), [((1, 2), (1.0, false)), ((2, 1), (1.0, false))].into());
}

#[test]
fn whoever_hears_the_speakers_language_hears_the_original_at_full_gain() {
    let mut world = World::call();
    let anna = world.join(&caller("anna", "en"));
    let beto = world.join(&Caller { hear: "en".to_owned(), ..caller("beto", "es") });
    assert!(world.room().targets(anna).is_empty(), "beto understands anna as she is");
    assert_eq!(world.room().targets(beto)[0].0, Language::EN);
    assert_eq!(routes(&mut world), [((1, 2), (0.2, true)), ((2, 1), (1.0, false))].into());
    let shown = world.room().participant("beto").expect("is there");
    assert_eq!((shown.language.as_str(), shown.hear.as_str()), ("es", "en"));
}

#[test]
fn the_first_listener_of_a_language_chooses_its_voice_in_a_call() {
    let mut world =
        World::with(RoomSpec { max_participants: 4, ..World::spec(RoomKind::Call, &[]) });
    let with = |identity: &str, language: &str, voice: &str| Caller {
        voice: Some(voice.to_owned()),
        ..caller(identity, language)
    };
    let anna = world.join(&caller("anna", "en"));
    world.join(&caller("beto", "es"));
    world.join(&with("carla", "es", "ef_dora"));
    world.join(&with("diego", "es", "em_alex"));
    let voices = world.room().voices(anna);
    assert_eq!(voices, BTreeMap::from([(Language::ES, "ef_dora".to_owned())]));
}

#[test]
fn a_call_with_two_sessions_a_person_routes_nobody_to_themselves() {
    let mut world = World::call();
    world.join(&speaker("anna", "en"));
    world.join(&Caller { role: Role::Listen { channel: None }, ..caller("anna", "en") });
    world.join(&caller("beto", "es"));
    assert_eq!(routes(&mut world), [((2, 3), (0.2, true)), ((3, 1), (0.2, true))].into());
    assert!(matches!(world.reserve(&caller("carl", "de")), Err(HouseError::RoomFull(2))));
}

#[test]
fn who_begins_while_another_speaks_speaks_over_them() {
    let mut world = World::call();
    let anna = world.join(&caller("anna", "en"));
    let beto = world.join(&caller("beto", "es"));
    assert!(!world.start(anna));
    assert!(world.start(beto));
    world.stop(anna);
    world.stop(beto);
    assert!(!world.start(beto));
    world.leave(beto);
    assert!(!world.start(anna), "beto left");
}

#[test]
fn an_identity_publishes_once_and_listens_once() {
    let mut world = World::conference(&["en", "fr"]);
    world.join(&speaker("anna", "en"));
    for again in [speaker("anna", "en"), caller("anna", "en"), interpreter("anna", "fr")] {
        let refused = world.reserve(&again);
        assert!(matches!(refused, Err(HouseError::IdentityTaken(_))), "{refused:?}");
    }
    world.join(&listener("anna", "fr"));
    let again = world.reserve(&listener("anna", "floor"));
    assert!(matches!(again, Err(HouseError::IdentityTaken(_))));
    world.join(&caller("beto", "en"));
    for again in [speaker("beto", "en"), listener("beto", "en")] {
        assert!(matches!(world.reserve(&again), Err(HouseError::IdentityTaken(_))));
    }
}

#[test]
fn one_person_with_two_sessions_comes_once_and_leaves_once() {
    let mut world = World::conference(&["en", "fr"]);
    let speaks = world.join(&speaker("anna", "en"));
    let hears = world.join(&listener("anna", "fr"));
    let shown = world.room().show(Tier::Full).participants;
    assert_eq!(shown.len(), 1);
    assert_eq!((shown[0].language.as_str(), shown[0].channel.as_deref()), ("en", Some("fr")));
    world.leave(speaks);
    let told = world.told();
    assert!(matches!(&told[..], [EventKind::ParticipantJoined { .. }]), "{told:?}");
    world.leave(hears);
    assert!(matches!(&world.told()[..], [EventKind::ParticipantLeft { .. }]));
}

#[test]
fn a_peer_that_never_connected_leaves_silently_and_events_have_no_gaps() {
    let mut world = World::call();
    let anna = world.join(&caller("anna", "en"));
    let mut events = world.room().events.feed(Some(0)).live;
    let beto = world.reserve(&caller("beto", "es")).expect("a place");
    world.leave(beto);
    world.leave(anna);
    assert!(world.state.remove_peer(anna, "left", world.now).is_none());
    let event = events.try_recv().expect("one event");
    // The room's own is the first, and anna's coming the second.
    assert_eq!(event.seq, 3);
    assert!(matches!(event.kind, EventKind::ParticipantLeft { .. }));
    assert!(events.try_recv().is_err());
}

#[test]
fn the_places_of_a_room_are_for_people_and_not_for_their_sessions() {
    let spec = RoomSpec { max_participants: 2, ..World::spec(RoomKind::Conference, &["en"]) };
    let mut world = World::with(spec);
    world.join(&speaker("anna", "en"));
    world.join(&listener("beto", "en"));
    assert!(matches!(world.reserve(&listener("carl", "en")), Err(HouseError::RoomFull(2))));
    world.join(&listener("anna", "floor"));
}

#[test]
fn a_room_ends_when_nobody_comes_or_everybody_has_left_but_never_with_somebody_in_it() {
    let mut world = World::conference(&["en"]);
    let over = |world: &World| world.state.expired(world.now);
    world.pass(299);
    assert!(over(&world).is_empty());
    let peer = world.reserve(&caller("anna", "en")).expect("a place");
    world.pass(1_000);
    assert!(over(&world).is_empty(), "somebody is on their way in");
    world.leave(peer);
    world.pass(299);
    assert!(over(&world).is_empty(), "the one who did not get in has time to try again");
    world.pass(1);
    assert_eq!(over(&world), [("r".to_owned(), "empty")]);
    let anna = world.join(&caller("anna", "en"));
    world.pass(86_400);
    assert!(over(&world).is_empty());
    world.leave(anna);
    world.pass(19);
    assert!(over(&world).is_empty());
    world.pass(1);
    assert_eq!(over(&world), [("r".to_owned(), "departed")]);
    world.told();
    let now = world.now;
    let ended = world.state.end_room("r", "departed", now).expect("was there");
    assert!(ended.peers.is_empty());
    assert_eq!(world.told(), [EventKind::RoomEnded { reason: "departed".to_owned() }]);
}

#[test]
fn a_timeout_of_nothing_keeps_the_room() {
    let spec = World::spec(RoomKind::Call, &[]);
    let mut world = World::with(RoomSpec { empty_timeout_s: 0, departure_timeout_s: 0, ..spec });
    world.pass(1_000_000);
    let anna = world.join(&caller("anna", "en"));
    world.leave(anna);
    world.pass(1_000_000);
    assert!(world.state.expired(world.now).is_empty());
}

#[test]
fn a_room_that_ends_takes_everybody_out_and_closes_its_channels() {
    let mut world = World::conference(&["en", "fr"]);
    let anna = world.join(&listener("anna", "fr"));
    world.orders();
    world.told();
    let now = world.now;
    let ended = world.state.end_room("r", "deleted", now).expect("was there");
    assert_eq!(ended.peers, [anna]);
    assert_eq!(ended.orders, [Order::Close(ChannelId(2))]);
    let told = world.told();
    let [EventKind::ParticipantLeft { reason, .. }, EventKind::RoomEnded { .. }] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(reason, "room_ended");
    assert!(world.state.room_of(anna).is_none());
}

#[test]
fn who_is_muted_is_neither_heard_nor_recognised_and_stays_so_when_they_come_back() {
    let mut world = World::call();
    let anna = world.join(&caller("anna", "en"));
    world.join(&caller("beto", "es"));
    world.orders();
    world.told();
    world.room().mute("anna", true).expect("is there");
    world.room().mute("anna", true).expect("is there");
    assert_eq!(
        world.orders(),
        [Order::ClearRoute { listener: PeerId(2), source: anna }],
        "beto hears her no more"
    );
    assert_eq!(world.room().wants(anna), Want::Nothing);
    assert!(world.room().targets(anna).is_empty());
    let muted = EventKind::ParticipantMuted { identity: "anna".to_owned(), muted: true };
    assert_eq!(world.told(), [muted], "told once");
    world.leave(anna);
    let anna = world.join(&caller("anna", "en"));
    assert_eq!(world.room().wants(anna), Want::Nothing);
    assert!(world.room().participant("anna").expect("is there").muted);
    assert_eq!(routes(&mut world), [((3, 2), (0.2, true))].into());
    world.room().mute("anna", false).expect("is there");
    assert_eq!(routes(&mut world), [((2, 3), (0.2, true))].into());
    assert_eq!(world.room().wants(anna), Want::Words);
    assert!(matches!(world.room().mute("carl", true), Err(HouseError::NoSuchParticipant(_))));
}

#[test]
fn a_call_has_no_channels_but_a_gain_that_can_be_changed() {
    let mut world = World::call();
    world.join(&caller("anna", "en"));
    world.join(&Caller { original_gain: Some(0.4), ..caller("beto", "es") });
    assert_eq!(routes(&mut world)[&(2, 1)].0, 0.4);
    let channel = ChangeSession { channel: Some("en".to_owned()), ..ChangeSession::default() };
    let refused = world.room().change_session("session-1", &channel);
    assert!(matches!(refused, Err(HouseError::Invalid(_))));
    let gain = |gain| ChangeSession { original_gain: Some(gain), ..ChangeSession::default() };
    assert!(world.room().change_session("session-1", &gain(1.5)).is_err());
    world.room().change_session("session-1", &gain(0.7)).expect("fits");
    assert_eq!(routes(&mut world), [((1, 2), (0.7, true))].into());
    let gone = world.room().change_session("session-9", &gain(0.7));
    assert!(matches!(gone, Err(HouseError::NoSuchSession(_))));
}

#[test]
fn what_a_token_does_not_grant_is_forbidden() {
    let mut world = World::conference(&["en", "es", "fr"]);
    let with = |caller: Caller, grants: Grants| Caller { grants, ..caller };
    let channels = Some(vec!["es".to_owned(), "floor".to_owned()]);
    let some = Grants { channels, ..Grants::default() };
    let both_on = |channel: &str| {
        let role = Role::Both { channel: Some(channel.to_owned()) };
        Caller { role, ..caller("anna", "en") }
    };
    for forbidden in [
        with(listener("anna", "fr"), some.clone()),
        with(caller("anna", "en"), some.clone()),
        with(both_on("fr"), some.clone()),
        with(interpreter("anna", "fr"), Grants::default()),
        with(
            interpreter("anna", "fr"),
            Grants { interpret: vec!["es".to_owned()], ..some.clone() },
        ),
        with(speaker("anna", "en"), Grants { speak: false, ..Grants::default() }),
        with(listener("anna", "fr"), Grants { listen: false, ..Grants::default() }),
    ] {
        let refused = world.reserve(&forbidden);
        assert!(matches!(refused, Err(HouseError::Forbidden(_))), "{refused:?}");
    }
    world.join(&with(both_on("es"), some));
    assert_eq!(world.room().participants()[0].channel.as_deref(), Some("es"));
    let to = |channel: &str| ChangeSession {
        channel: Some(channel.to_owned()),
        ..ChangeSession::default()
    };
    world.room().change_session("session-1", &to("floor")).expect("allowed");
    let refused = world.room().change_session("session-1", &to("fr")).expect_err("not allowed");
    assert_eq!(refused.to_string(), "the token does not allow fr, only: es, floor");
    let unknown = world.room().change_session("session-1", &to("it")).expect_err("no channel");
    assert_eq!(unknown.to_string(), "there is no channel \"it\" here; there are en, es, fr, floor");
}

#[test]
fn a_speaker_of_another_language_fits_when_the_machine_understands_it() {
    let mut world = World::conference(&["en", "es"]);
    let yuki = world.join(&speaker("yuki", "ja"));
    world.join(&listener("anna", "en"));
    assert_eq!(world.room().targets(yuki)[0].0, Language::EN);
    let refused = world.reserve(&speaker("olga", "ru")).expect_err("nobody understands it");
    assert_eq!(
        refused.to_string(),
        "ru can be interpreted into none of the room's channels (en, es)"
    );
    world.join(&Caller { hear: "ru".to_owned(), ..caller("olga", "en") });
    let shown = world.room().participant("olga").expect("is there");
    assert_eq!(shown.channel.as_deref(), Some("floor"), "there is no channel of hers");
    assert!(world.room().has_channel(language("en")));
}
