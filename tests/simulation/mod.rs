//! A deterministic simulation: many connections, some workers over one store, and everything that can happen to them, in an
//! order that a seed decides.
//!
//! [`pipe`] is the sockets and what goes wrong with them, [`client`] what clients do, [`public`] what is published and changes,
//! [`host`] a worker without its runtime, [`world`] the schedule. [`peer`] holds each connection to what it must be: each answer
//! is the one that [`crate::model`] gives at the moment in which it is made, nothing is lost or sent twice, everybody is
//! answered, waits for what will come, or goes at its deadline, and at the end nothing is left.
//!
//! `CLOUDIA_TEST_STEPS=N` is for how many steps it goes on, half of them in each of two tests that run side by side.
//! `CLOUDIA_TEST_SEED=N` repeats what a seed did: the first world has that very seed, the next ones those that follow.

mod client;
mod host;
mod lists;
mod peer;
mod pipe;
mod public;
mod reader;
mod tally;
mod world;

use std::{env, rc::Rc, time::Instant};

use reader::Reader;
use tally::Tally;
use world::{Told, World};

use crate::{alloc, harness::seed};

/// Steps of both tests together, unless the environment says otherwise.
const USUAL_STEPS: u64 = 1_000_000;

/// A schedule in which something never happens proves nothing of it: so many steps have everything.
const ENOUGH: u64 = 300_000;

/// Lives the life of one world. Its steps, and what was done in it, in a number.
fn live(seed: u64, tally: &Tally) -> (u64, u64) {
    let told = Told(seed);
    let of_world = Rc::new(Tally::new());
    let mut world = World::new(seed, &of_world);
    world.live(&mut Reader::default());
    tally.add(&of_world);
    drop(told);
    (world.steps, world.digest)
}

fn simulate(first: u64) {
    let steps = env::var("CLOUDIA_TEST_STEPS").map_or(USUAL_STEPS, |steps| steps.parse().unwrap()) / 2;
    let tally = Tally::new();
    let (mut done, mut worlds, mut held, begun) = (0, 0, 0, Instant::now());
    while worlds == 0 || done < steps {
        done += live(first.wrapping_add(worlds), &tally).0;
        worlds += 1;
        // The first ones make what is made once.
        if worlds == 2 {
            held = alloc::held();
        }
    }
    eprintln!("{done} steps in {worlds} worlds from seed {first}, {:?}: {}", begun.elapsed(), tally.summary());
    assert!(done < ENOUGH || tally.missing().is_empty(), "never happened: {:?}", tally.missing());
    let kept = alloc::held() - held;
    assert!(worlds < 3 || kept < 64 * 1024, "{kept} bytes are left of {worlds} worlds");
}

#[test]
fn half_of_the_steps() {
    simulate(seed());
}

#[test]
fn the_other_half_of_the_steps() {
    simulate(seed().wrapping_add(1 << 32));
}

/// Neither hashes nor addresses nor the time decide anything.
#[test]
fn a_seed_is_one_schedule() {
    let seed = seed();
    let digest = || live(seed, &Tally::new()).1;
    assert_eq!(digest(), digest());
}
