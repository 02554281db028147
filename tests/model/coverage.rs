//! What lives came to: a test in which nothing happens proves nothing.

use std::{iter::Sum, ops::Add};

use crate::{
    channel::{Model, State},
    command::{About, Seen},
};

macro_rules! coverage {
    ($($(#[$doc:meta])* $what:ident),+ $(,)?) => {
        /// How many lives came to each of these.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Coverage {
            pub requests: usize,
            /// To whom a crash repeated a request: how many, the operating system decides.
            pub repeated: usize,
            $($(#[$doc])* pub $what: usize),+
        }

        impl Coverage {
            /// What nobody came to.
            pub fn missing(&self) -> Vec<&'static str> {
                [$((stringify!($what), self.$what)),+]
                    .into_iter()
                    .filter(|(_, lives)| *lives == 0)
                    .map(|(what, _)| what)
                    .collect()
            }
        }

        impl Add for Coverage {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self {
                    requests: self.requests + other.requests,
                    repeated: self.repeated + other.repeated,
                    $($what: self.$what + other.$what),+
                }
            }
        }
    };
}

coverage! {
    retried,
    paused,
    suspended,
    gone,
    expired,
    /// Expired and went on.
    revived,
    /// The grace ran out.
    closed,
    stopped,
    parked,
    sync_parked,
    redriven,
    replayed,
    pinged,
    readdressed,
    /// A notification stood for several events.
    collapsed,
    /// Events went by age.
    retired,
}

impl Sum for Coverage {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}

impl Coverage {
    pub fn look(&mut self, model: &Model, sent: &[Seen]) {
        self.requests += sent.len();
        let was_expired = self.expired > 0;
        let mut set = |what: fn(&mut Self) -> &mut usize, is: bool| *what(self) |= usize::from(is);
        set(|it| &mut it.paused, model.state == State::Paused);
        set(|it| &mut it.suspended, model.state == State::Suspended);
        set(|it| &mut it.gone, model.state == State::Gone);
        set(|it| &mut it.expired, model.state == State::Expired);
        set(|it| &mut it.revived, was_expired && model.is_living());
        set(|it| &mut it.closed, model.state == State::Expired && model.end.is_some());
        set(|it| &mut it.stopped, model.state == State::Stopped);
        set(|it| &mut it.parked, model.parked.keys().any(|seq| *seq > model.start));
        set(|it| &mut it.sync_parked, model.parked.contains_key(&model.start));
        set(|it| &mut it.redriven, model.redriven > 0);
        set(|it| &mut it.retired, model.earliest > 1);
        for seen in sent {
            let is_event = seen.about == About::Notification;
            set(|it| &mut it.retried, seen.attempt > 1);
            set(|it| &mut it.pinged, !is_event);
            set(|it| &mut it.replayed, seen.replayed);
            set(|it| &mut it.readdressed, seen.address == 1);
            set(
                |it| &mut it.collapsed,
                model.latest && is_event && model.failing.pinned > Some(model.cursor + 1),
            );
        }
    }
}
