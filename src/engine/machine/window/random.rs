//! Random lives of a lane with a window, with crashes: nothing is lost, nothing is repeated but what was in flight or
//! unsaved, and no bound is passed. The world around the lane does what driver and store do.

mod world;

use std::time::Duration;

use proptest::prelude::*;

use self::world::World;
use super::*;
use crate::{
    domain::channel::{CatchUp, OnExhausted},
    engine::machine::{
        Terms,
        tests::{self as in_order, NOW},
    },
};

const START_SEQ: i64 = 10;

#[derive(Clone, Copy, Debug)]
enum Turn {
    Publish(i64),
    Grant(usize),
    Answer(usize, u16),
    Ours(usize),
    Withdraw(usize),
    Look,
    Commit(usize),
    TellSaved,
    Pass(u64),
    PassToTimer,
    Ack(i64),
    Replay(i64),
    Pause,
    Crash,
}

fn turns() -> impl Strategy<Value = Turn> {
    let status = prop_oneof![3 => Just(200_u16), 2 => Just(503), 1 => Just(422), 1 => Just(404)];
    prop_oneof![
        4 => prop_oneof![1_i64..5, 1_i64..400].prop_map(Turn::Publish),
        8 => (1_usize..80).prop_map(Turn::Grant),
        16 => (any::<usize>(), status).prop_map(|(at, status)| Turn::Answer(at, status)),
        1 => any::<usize>().prop_map(Turn::Ours),
        1 => any::<usize>().prop_map(Turn::Withdraw),
        4 => Just(Turn::Look),
        5 => (1_usize..40).prop_map(Turn::Commit),
        5 => Just(Turn::TellSaved),
        2 => (0_u64..20_000).prop_map(Turn::Pass),
        3 => Just(Turn::PassToTimer),
        1 => (0_i64..60).prop_map(Turn::Ack),
        1 => (0_i64..60).prop_map(Turn::Replay),
        1 => Just(Turn::Pause),
        1 => Just(Turn::Crash),
    ]
}

fn terms(catch_up: CatchUp, filtered: bool, on_exhausted: OnExhausted, max_attempts: Option<u32>) -> Terms {
    let expires_at = NOW.plus(Duration::from_hours(24 * 3_650));
    Terms {
        max_attempts,
        on_exhausted,
        judges_payload: true,
        expires_at,
        catch_up,
        filtered,
        ..in_order::terms()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn nothing_is_lost_and_no_bound_is_passed(
        latest in any::<bool>(),
        filtered in any::<bool>(),
        goes_on in any::<bool>(),
        max_attempts in proptest::option::of(1_u32..40),
        turns in proptest::collection::vec(turns(), 1..300),
    ) {
        // The filter and runs are each tested by themselves: this world's runs know no filter.
        let catch_up = if latest && !filtered { CatchUp::Latest } else { CatchUp::All };
        let on_exhausted = if goes_on { OnExhausted::Continue } else { OnExhausted::Suspend };
        let mut world = World::open(terms(catch_up, filtered, on_exhausted, max_attempts));
        for turn in turns {
            world.take(turn);
        }
        world.heal();
        prop_assert_eq!(world.lane.settled(), world.head);
        prop_assert!(world.stored.retries.is_empty() && world.stored.map.is_none(), "{:?}", world.stored);
        prop_assert_eq!(world.stored.seq, world.head);
        for seq in START_SEQ..=world.head {
            let ended = world.had.contains_key(&seq) || world.over.contains(&seq) || !world.wants(seq);
            prop_assert!(ended, "{} is lost", seq);
        }
    }
}
