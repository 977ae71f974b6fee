//! Which result to publish next, what to send again, and when to ask ingest how far it is (G1).
//!
//! ```text
//!   spool ──next──▶ in flight ──PubAck──▶ confirmed ──watermark of ingest──▶ stored (the spool forgets it)
//!             ▲          │ failed              │ asked, and ingest does not have it
//!             └──────────┴─────────────────────┘
//! ```
//!
//! Each result is published once and confirmed by the broker. It is sent again only when its publishing failed, or
//! when ingest was asked and said that it does not have it: after a reconnect (the broker may have lost what it
//! confirmed), or when the watermark stood still for [`STALE_MS`]. Without an answer nothing is repeated; an ingest
//! that is catching up moves its watermark and is left in peace.
//!
//! After an outage there are two lanes: the backlog goes out in order and paced, and what is measured from then on goes
//! past it, so that news does not wait for history. They join where the backlog ends.
//!
//! Times are milliseconds on a clock that never goes back; numbers are sequence numbers of one epoch.

use std::collections::BTreeSet;

/// How long the watermark may stand still below what was confirmed, before ingest is asked. Doubles up to
/// [`STALE_MAX_MS`] while asking does not help.
pub const STALE_MS: u64 = 15_000;
pub const STALE_MAX_MS: u64 = 60_000;
/// How soon ingest is asked again that did not answer after a connect: it may come back a moment after the agent.
/// Doubles as well.
pub const FIRST_ANSWER_MS: u64 = 1_000;

/// From so many unsent results on there are two lanes.
pub const BACKLOG: u64 = if cfg!(test) { 16 } else { 1_024 };

/// Where the next result to publish is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// From where everything before was sent; a backlog while there is a live lane too.
    Order,
    /// Past the backlog.
    Live,
}

/// Numbers that were, or are about to be, sent past the backlog: `from..next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Live {
    from: u64,
    next: u64,
}

#[derive(Debug)]
pub struct Delivery {
    window: usize,
    next: u64,
    live: Option<Live>,
    in_flight: BTreeSet<u64>,
    /// Highest that the broker confirmed.
    confirmed: u64,
    /// Everything up to here is stored by ingest.
    stored: u64,
    /// What is sent up to here was confirmed before.
    resend_to: u64,
    connected: bool,
    /// Nothing is published before then, after a failure.
    hold_until: u64,
    asking: bool,
    /// The broker is another since ingest last answered: it may have lost what it confirmed.
    unsure: bool,
    /// When to ask, if something is confirmed and not stored, or the broker is another.
    ask_at: u64,
    patience: u64,
    stored_when_asked: u64,
    /// Results were dropped, and ingest was not told yet.
    loss_untold: bool,
}

/// One result to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send {
    pub seq: u64,
    /// It was confirmed before.
    pub again: bool,
}

impl Delivery {
    /// Begin with `first`; at most `window` are in flight at once.
    #[must_use]
    pub fn new(first: u64, window: usize) -> Self {
        Self {
            window,
            next: first,
            live: None,
            in_flight: BTreeSet::new(),
            confirmed: 0,
            stored: 0,
            resend_to: 0,
            connected: false,
            hold_until: 0,
            asking: false,
            unsure: true,
            ask_at: 0,
            patience: STALE_MS,
            stored_when_asked: 0,
            loss_untold: false,
        }
    }

    pub fn connected(&mut self, now: u64) {
        self.connected = true;
        // What came during the outage is backlog too.
        self.live = None;
        self.unsure = true;
        self.ask_at = now;
        self.patience = FIRST_ANSWER_MS;
        self.hold_until = now;
    }

    pub fn disconnected(&mut self) {
        self.connected = false;
    }

    /// `end` is the number of the next result that will be added. Opens the live lane when there is a backlog, and
    /// closes it behind the backlog.
    pub fn grown(&mut self, end: u64) {
        match self.live {
            Some(live) if self.next >= live.from => {
                self.next = self.next.max(live.next);
                self.live = None;
            }
            None if end.saturating_sub(self.next) > BACKLOG => {
                self.live = Some(Live { from: end, next: end })
            }
            _ => {}
        }
    }

    /// Whether there is a backlog, which the lane [`Lane::Order`] is then.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        self.live.is_some()
    }

    /// Where to read on, and how many may be published now.
    #[must_use]
    pub fn wants(&self, lane: Lane, now: u64) -> (u64, usize) {
        // What ingest lacks goes out before what is new, so the answer is waited for.
        let first_answer_due = self.unsure && (self.asking || self.should_ask(now));
        let open = self.connected && !first_answer_due && now >= self.hold_until;
        // A backlog leaves some room to what is new.
        let kept_free = if lane == Lane::Order && self.live.is_some() { self.window / 8 } else { 0 };
        let room = self.window.saturating_sub(self.in_flight.len() + kept_free);
        let (next, room) = match (lane, self.live) {
            (Lane::Live, Some(live)) => return (live.next, if open { room } else { 0 }),
            (Lane::Live, None) => (self.next, 0),
            (Lane::Order, None) => (self.next, room),
            (Lane::Order, Some(live)) => {
                let left = usize::try_from(live.from.saturating_sub(self.next)).unwrap_or(usize::MAX);
                if left <= room {
                    return (self.next, if open { left } else { 0 });
                }
                (self.next, room)
            }
        };
        // Reading in small pieces would cost more than the few that could go out at once.
        (next, if open && room * 4 >= self.window { room } else { 0 })
    }

    /// `seq`, read from the spool, is about to be published. `None`: it is in flight already, or not this
    /// lane's.
    pub fn send(&mut self, lane: Lane, seq: u64) -> Option<Send> {
        match (lane, &mut self.live) {
            (Lane::Live, Some(live)) => live.next = seq + 1,
            // The other lane's: there was a hole before it.
            (Lane::Order, Some(live)) if seq >= live.from => {
                self.next = live.from;
                return None;
            }
            _ => self.next = seq + 1,
        }
        self.in_flight.insert(seq).then_some(Send { seq, again: seq <= self.resend_to })
    }

    /// The spool has nothing to read in `lane` before `seq`.
    pub fn skip_to(&mut self, lane: Lane, seq: u64) {
        match (lane, &mut self.live) {
            (Lane::Live, Some(live)) => live.next = live.next.max(seq),
            (Lane::Order, Some(live)) => self.next = self.next.max(seq.min(live.from)),
            _ => self.next = self.next.max(seq),
        }
    }

    /// Everything up to here was confirmed by the broker.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.in_flight.first().map_or(self.next, |first| self.next.min(*first)).saturating_sub(1)
    }

    /// Results were dropped: ingest is to be told soon what the spool still has.
    pub fn lost(&mut self, now: u64) {
        self.loss_untold = true;
        self.ask_at = self.ask_at.min(now + FIRST_ANSWER_MS);
    }

    /// The broker stored `seq`.
    pub fn confirm(&mut self, now: u64, seq: u64) {
        self.in_flight.remove(&seq);
        if self.confirmed <= self.stored {
            self.ask_at = self.ask_at.max(now + STALE_MS);
        }
        self.confirmed = self.confirmed.max(seq);
    }

    /// `seq` was not confirmed; publish it, and what follows, again after `delay` ms.
    pub fn fail(&mut self, now: u64, seq: u64, delay: u64) {
        self.in_flight.remove(&seq);
        match &mut self.live {
            Some(live) if seq >= live.from => live.next = live.next.min(seq),
            _ => self.next = self.next.min(seq).max(self.stored + 1),
        }
        self.hold_until = self.hold_until.max(now + delay);
    }

    /// Ingest has everything up to `seq`.
    pub fn stored(&mut self, now: u64, seq: u64) {
        if seq > self.stored {
            self.stored = seq;
            self.next = self.next.max(seq + 1);
            self.patience = STALE_MS;
            if !self.unsure {
                self.ask_at = now + self.patience;
            }
        }
    }

    /// Whether nothing will have to be done with what there is up to `end` before something happens.
    #[must_use]
    pub fn is_at_rest(&self, end: u64) -> bool {
        let waiting = self.unsure || self.loss_untold || self.confirmed > self.stored;
        !self.connected
            || (!waiting
                && !self.asking
                && self.in_flight.is_empty()
                && self.live.is_none()
                && self.next >= end)
    }

    /// Whether to ask ingest now. Call [`Self::ask`] when doing so.
    #[must_use]
    pub fn should_ask(&self, now: u64) -> bool {
        let waiting = self.unsure || self.loss_untold || self.confirmed > self.stored;
        self.connected && !self.asking && waiting && now >= self.ask_at
    }

    pub fn ask(&mut self) {
        self.asking = true;
        self.stored_when_asked = self.stored;
    }

    /// Ingest answered with its watermark, or not at all. Returns how many may have to be sent again.
    pub fn answered(&mut self, now: u64, watermark: Option<u64>) -> u64 {
        self.asking = false;
        let (mut resend, mut helped) = (0, false);
        if let Some(watermark) = watermark {
            self.stored(now, watermark);
            let moved = self.stored > self.stored_when_asked;
            helped = self.unsure || moved || self.confirmed <= self.stored;
            if self.confirmed > self.stored && (self.unsure || !moved) {
                self.next = self.stored + 1;
                self.live = None;
                self.resend_to = self.confirmed;
                resend = self.confirmed - self.stored;
            }
            self.unsure = false;
            self.loss_untold = false;
        }
        self.ask_at = now + self.patience;
        self.patience = if helped { STALE_MS } else { (self.patience * 2).min(STALE_MAX_MS) };
        resend
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Publish what is wanted of `1..=last`.
    fn publish(delivery: &mut Delivery, now: u64, last: u64) -> Vec<Send> {
        delivery.grown(last + 1);
        let mut sent = Vec::new();
        for lane in [Lane::Live, Lane::Order] {
            let (next, room) = delivery.wants(lane, now);
            sent.extend((next..=last).take(room).filter_map(|seq| delivery.send(lane, seq)));
        }
        sent
    }

    fn seqs(sent: &[Send]) -> Vec<u64> {
        sent.iter().map(|send| send.seq).collect()
    }

    fn connect(now: u64, watermark: Option<u64>) -> Delivery {
        let mut delivery = Delivery::new(1, 4);
        delivery.connected(now);
        assert_eq!(delivery.wants(Lane::Order, now).1, 0, "ingest is asked first");
        delivery.ask();
        delivery.answered(now, watermark);
        delivery
    }

    #[test]
    fn g1_results_go_out_in_order_within_the_window() {
        let mut delivery = connect(0, Some(0));
        assert_eq!(seqs(&publish(&mut delivery, 0, 9)), [1, 2, 3, 4]);
        assert_eq!(delivery.wants(Lane::Order, 0).1, 0);
        delivery.confirm(0, 2);
        assert_eq!(seqs(&publish(&mut delivery, 0, 9)), [5]);
    }

    #[test]
    fn g1_what_failed_is_sent_again_in_order_after_the_delay() {
        let mut delivery = connect(0, Some(0));
        publish(&mut delivery, 0, 4);
        delivery.fail(0, 2, 100);
        delivery.fail(0, 3, 100);
        delivery.confirm(0, 1);
        assert_eq!(delivery.wants(Lane::Order, 99).1, 0);
        let sent = publish(&mut delivery, 100, 5);
        assert_eq!(seqs(&sent), [2, 3], "4 is still in flight");
        assert_eq!(seqs(&publish(&mut delivery, 100, 5)), [5]);
        assert!(sent.iter().all(|send| !send.again), "none of them was confirmed");
    }

    #[test]
    fn without_ingest_a_result_is_published_once() {
        let mut delivery = connect(0, None);
        assert_eq!(seqs(&publish(&mut delivery, 0, 2)), [1, 2]);
        delivery.confirm(1, 1);
        delivery.confirm(1, 2);
        let mut asked = 0;
        for now in 0..600_000 {
            if delivery.should_ask(now) {
                delivery.ask();
                delivery.answered(now, None);
                asked += 1;
            }
            assert_eq!(publish(&mut delivery, now, 2), []);
        }
        // After 1, 2, 4, … 32 s, then once a minute.
        assert_eq!(asked, 14, "with back-off");
    }

    #[test]
    fn g1_a_wiped_broker_gets_what_ingest_lacks_marked_as_sent_again() {
        let mut delivery = connect(0, Some(0));
        publish(&mut delivery, 0, 3);
        (1..=3).for_each(|seq| delivery.confirm(0, seq));
        delivery.stored(5, 1);
        delivery.disconnected();
        assert_eq!(delivery.wants(Lane::Order, 6).1, 0);
        delivery.connected(7);
        delivery.ask();
        assert_eq!(delivery.answered(8, Some(1)), 2);
        let sent = publish(&mut delivery, 8, 4);
        assert_eq!(sent, [(2, true), (3, true), (4, false)].map(|(seq, again)| Send { seq, again }));
    }

    #[test]
    fn g1_a_watermark_that_stands_still_is_asked_for_and_then_trusted() {
        let mut delivery = connect(0, Some(0));
        publish(&mut delivery, 0, 2);
        delivery.confirm(0, 1);
        delivery.confirm(0, 2);
        assert!(!delivery.should_ask(STALE_MS - 1));
        assert!(delivery.should_ask(STALE_MS));
        delivery.ask();
        assert_eq!(delivery.answered(STALE_MS, Some(1)), 0, "it moved: ingest is catching up");
        let later = 2 * STALE_MS;
        assert!(delivery.should_ask(later));
        delivery.ask();
        assert_eq!(delivery.answered(later, Some(1)), 1);
        assert_eq!(publish(&mut delivery, later, 2), [Send { seq: 2, again: true }]);
    }

    #[test]
    fn g7_what_is_new_goes_past_a_backlog_which_goes_on_in_order() {
        let mut delivery = connect(0, Some(0));
        // 100 from an outage; a window of 4 is too small to leave room, so that of a real one.
        delivery.window = 16;
        delivery.grown(101);
        assert!(delivery.has_backlog());
        assert_eq!(delivery.wants(Lane::Order, 0), (1, 14), "some room is kept for news");
        for seq in 1..=14 {
            delivery.send(Lane::Order, seq).unwrap();
        }
        delivery.grown(103);
        assert_eq!(delivery.wants(Lane::Live, 0), (101, 2));
        delivery.send(Lane::Live, 101).unwrap();
        delivery.send(Lane::Live, 102).unwrap();
        delivery.confirm(0, 102);
        assert_eq!(delivery.acknowledged(), 0);
        delivery.fail(0, 101, 0);
        assert_eq!(delivery.wants(Lane::Live, 0).0, 101, "a failure of the one does not move the other");
        delivery.send(Lane::Live, 101).unwrap();
        delivery.confirm(0, 101);
        (1..=14).for_each(|seq| delivery.confirm(0, seq));
        assert_eq!(delivery.acknowledged(), 14);
        for seq in 15..=100 {
            delivery.send(Lane::Order, seq).unwrap();
            delivery.confirm(0, seq);
        }
        delivery.grown(103);
        assert!(!delivery.has_backlog());
        assert_eq!(
            (delivery.wants(Lane::Order, 0).0, delivery.acknowledged()),
            (102, 101),
            "102 goes out again"
        );
    }

    #[test]
    fn g1_ingest_is_told_of_a_loss_even_when_all_else_is_stored() {
        let mut delivery = connect(0, Some(0));
        publish(&mut delivery, 0, 2);
        delivery.confirm(0, 1);
        delivery.confirm(0, 2);
        delivery.stored(0, 2);
        assert!(!delivery.should_ask(1_000_000));
        assert!(delivery.is_at_rest(3) && !delivery.is_at_rest(4));
        delivery.lost(1_000_000);
        assert!(!delivery.is_at_rest(3));
        assert!(delivery.should_ask(1_000_000 + FIRST_ANSWER_MS));
        delivery.ask();
        delivery.answered(1_002_000, Some(2));
        assert!(!delivery.should_ask(2_000_000));
    }

    proptest! {
        /// Whatever fails and in whatever order: once everything works, everything is confirmed and then stored.
        #[test]
        fn g1_in_the_end_everything_is_stored(
            events in proptest::collection::vec((0_u8..6, any::<u16>()), 0..300), last in 1_u64..60,
        ) {
            let mut delivery = Delivery::new(1, 8);
            let (mut now, mut flying) = (0, Vec::<u64>::new());
            let (mut broker, mut ingest) = (BTreeSet::<u64>::new(), 0_u64);
            let step = |delivery: &mut Delivery, now: u64, flying: &mut Vec<u64>| {
                if delivery.should_ask(now) { delivery.ask(); return true; }
                flying.extend(publish(delivery, now, last).iter().map(|send| send.seq));
                assert!(flying.len() <= 8);
                false
            };
            for (event, random) in events {
                now += u64::from(random) % 7_000;
                let pick = usize::from(random) % flying.len().max(1);
                match event {
                    0 => delivery.connected(now),
                    1 => delivery.disconnected(),
                    2 if !flying.is_empty() => {
                        let seq = flying.remove(pick);
                        broker.insert(seq);
                        delivery.confirm(now, seq);
                    }
                    3 if !flying.is_empty() => delivery.fail(now, flying.remove(pick), 50),
                    // The broker loses everything, and says so by a lost connection.
                    4 => { broker.clear(); delivery.disconnected(); }
                    _ => if broker.contains(&(ingest + 1)) {
                        ingest += 1;
                        delivery.stored(now, ingest);
                    },
                }
                if step(&mut delivery, now, &mut flying) {
                    delivery.answered(now, (random % 2 == 0).then_some(ingest));
                }
            }
            delivery.connected(now);
            for _ in 0..2_000 {
                now += 500;
                if step(&mut delivery, now, &mut flying) { delivery.answered(now, Some(ingest)); }
                for seq in flying.drain(..) {
                    broker.insert(seq);
                    delivery.confirm(now, seq);
                }
                while broker.contains(&(ingest + 1)) { ingest += 1; }
                delivery.stored(now, ingest);
            }
            prop_assert_eq!(ingest, last);
        }
    }
}
