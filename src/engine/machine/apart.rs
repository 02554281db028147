//! What ended otherwise than by a 2xx of its own. A checkpoint that meets a cursor that was moved from outside writes no
//! outcome of its lane, so the lane remembers these until they are durable: each event has a findable end.

use super::{Lane, Parking, Record};

/// What became of events that have no 2xx of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Apart {
    Parked(Parking),
    /// A run from the first to the second ended with the newest after it.
    Superseded(i64, i64),
}

impl Apart {
    /// The last event that it is about.
    pub const fn seq(self) -> i64 {
        match self {
            Self::Parked(parking) => parking.seq,
            Self::Superseded(_, to) => to,
        }
    }
}

impl Lane {
    /// What was parked or superseded by the last outcome is kept until that is durable.
    pub(super) fn part(&mut self, parked: Option<Parking>, superseded: Option<(i64, i64)>) {
        let parked = parked.map(Apart::Parked);
        let superseded = superseded.map(|(from, to)| Apart::Superseded(from, to));
        self.apart.extend(parked.into_iter().chain(superseded).map(|apart| (self.outcomes, apart)));
    }

    /// The place, and before it what has ended apart on the way there and is not durable yet: for a store that has taken
    /// no outcome since its cursor was moved from outside.
    pub fn way_here(&self) -> impl Iterator<Item = Record> {
        let apart = self.apart.iter().map(|(_, apart)| match *apart {
            Apart::Parked(parking) => Record { parked: Some(parking), ..self.place() },
            Apart::Superseded(from, to) => Record { superseded: Some((from, to)), ..self.place() },
        });
        apart.chain([self.place()])
    }
}
