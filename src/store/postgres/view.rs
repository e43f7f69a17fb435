//! The state of all hosts, and what follows from it. Only this module decides which host is the primary.
//!
//! Each host's task publishes a [`Report`]. Lanes, `/ready`, metrics and logs ask the same functions of the same view.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::session::Session;
use super::standing::{Epoch, Role, Standing};

/// A host is silent (unreachable) this long after its last answer. A frozen host still accepts connections, so a probe and a
/// connection to it run into their deadlines: during that time it must not look cut off.
const SILENT_AFTER: Duration = Duration::from_secs(4);

/// What is known of all hosts, in the order of the URL.
#[derive(Clone)]
pub(super) struct View {
    pub(super) hosts: Vec<(Arc<str>, Report)>,
    /// The last promotion of a primary that was seen: an older one is not used any more.
    pub(super) newest: Option<Epoch>,
    /// Whether every host has answered or run into its deadline. Before that nothing is chosen: if two hosts claim to be the
    /// primary, the first to answer may be the wrong one.
    settled: bool,
    /// Whether a host could ever be used since the start.
    pub(super) reached: bool,
}

/// What is known of one host.
#[derive(Clone, Default)]
pub(super) struct Report {
    /// What it last reported about itself.
    pub(super) standing: Option<Standing>,
    /// Whether it answered the last time that it was asked.
    pub(super) answers: bool,
    /// Why it cannot be used now.
    pub(super) problem: Option<Arc<str>>,
    /// When it last accepted or refused a connection or answered: either shows that the way to it is whole.
    pub(super) heard: Option<Instant>,
    pub(super) round_trip: Duration,
    /// The connection on which it answers.
    pub(super) session: Option<Arc<Session>>,
}

impl Report {
    /// Whether the host was asked at all.
    fn is_known(&self) -> bool {
        self.standing.is_some() || self.problem.is_some()
    }
}

impl View {
    /// Nothing is known yet of these hosts.
    pub(super) fn new(names: impl Iterator<Item = Arc<str>>) -> Self {
        let hosts = names.map(|name| (name, Report::default())).collect();
        Self { hosts, newest: None, settled: false, reached: false }
    }

    /// Records a host's report.
    pub(super) fn publish(&mut self, index: usize, report: Report) {
        if let Some((_, old)) = self.hosts.get_mut(index) {
            *old = report;
        }
        if self.hosts.iter().all(|(_, report)| report.is_known()) {
            self.settled = true;
        }
        self.follow();
    }

    /// Stops waiting for hosts that have not answered yet.
    pub(super) fn settle(&mut self) {
        self.settled = true;
        self.follow();
    }

    /// Records the newest promotion. In the order of the URL, so that all services choose the same of two clusters.
    fn follow(&mut self) {
        for index in 0..self.hosts.len() {
            if let Some(standing) = self.answers_as(index, Role::Primary)
                && self.settled
                && self.admits(standing.epoch)
            {
                self.newest = Some(standing.epoch);
            }
        }
        self.reached |= self.reader().is_some();
    }

    /// Whether a primary of this epoch may be used. One that a later promotion of the same cluster replaced may not: its writes
    /// would be lost, and its answers are old. One of another cluster may not either, unless the known cluster has no primary any
    /// more, or an operator promoted the other one later.
    pub(super) fn admits(&self, epoch: Epoch) -> bool {
        let Some(newest) = self.newest else { return true };
        if newest.system == epoch.system {
            return newest.promotion <= epoch.promotion;
        }
        let is_of_known =
            |standing: &Standing| standing.role == Role::Primary && standing.epoch.system == newest.system;
        newest.promotion.region < epoch.promotion.region
            || !self.hosts.iter().filter_map(|(_, report)| report.standing.as_ref()).any(is_of_known)
    }

    /// The host that takes writes.
    pub(super) fn primary(&self) -> Option<usize> {
        self.usable(Role::Primary)
            .max_by_key(|(index, standing)| (standing.epoch.promotion, Reverse(*index)))
            .map(|(index, _)| index)
    }

    /// The host to read from: the primary; while there is none, the replica that has replayed most, of these the nearest.
    pub(super) fn reader(&self) -> Option<usize> {
        let system = self.newest.map(|newest| newest.system);
        let rank = |&(index, standing): &(usize, Standing)| {
            let is_known = Some(standing.epoch.system) == system;
            (is_known, standing.replayed, Reverse(self.hosts[index].1.round_trip))
        };
        self.primary().or_else(|| self.usable(Role::Replica).max_by_key(rank).map(|(index, _)| index))
    }

    /// The primary on which the table is to be created, if there is no table yet.
    pub(super) fn creator(&self) -> Option<usize> {
        let answers = |index: &usize| self.answers_as(*index, Role::Primary);
        let is_without = |standing: Standing| self.settled && !standing.has_table && self.admits(standing.epoch);
        (0..self.hosts.len()).find(|index| answers(index).is_some_and(is_without))
    }

    /// Whether a lane leaves a host that it knows in this role: another one is the primary, or the role has changed.
    pub(super) fn leaves(&self, index: usize, role: Role) -> bool {
        let has_changed = self.hosts[index].1.standing.is_some_and(|standing| standing.role != role);
        has_changed || self.primary().is_some_and(|primary| primary != index)
    }

    /// The connections of all hosts that answer, but one.
    pub(super) fn others(&self, index: usize) -> Vec<Arc<Session>> {
        let others = self.hosts.iter().enumerate().filter(|(other, _)| *other != index);
        others.filter_map(|(_, (_, report))| report.session.clone()).collect()
    }

    /// Whether a host has no table because one is about to be created.
    pub(super) fn awaits_table(&self, index: usize) -> bool {
        let report = &self.hosts[index].1;
        let is_admitted = |standing: &Standing| standing.role == Role::Replica || self.admits(standing.epoch);
        let standing = report.standing.filter(|standing| report.answers && is_admitted(standing));
        let lacks_table = standing.is_some_and(|standing| !standing.has_table);
        lacks_table && (!self.settled || self.primary().or_else(|| self.creator()).is_some())
    }

    /// Why a host cannot be used.
    pub(super) fn problem(&self, index: usize) -> Option<&str> {
        match self.answers_as(index, Role::Primary).map(|standing| standing.epoch).filter(|epoch| !self.admits(*epoch))
        {
            None => self.hosts[index].1.problem.as_deref(),
            Some(epoch) if self.newest.is_some_and(|newest| newest.system == epoch.system) => {
                Some("is a former primary: another host was promoted")
            }
            Some(_) => Some("belongs to another cluster (its system identifier differs): remove it from DATABASE_URL"),
        }
    }

    /// The hosts that have not answered for `SILENT_AFTER`.
    pub(super) fn silent(&self, now: Instant) -> impl Iterator<Item = usize> {
        let is_silent = move |heard: Instant| now.saturating_duration_since(heard) > SILENT_AFTER;
        let silent = move |(index, (_, report)): (usize, &(Arc<str>, Report))| {
            (report.is_known() && report.heard.is_none_or(is_silent)).then_some(index)
        };
        self.hosts.iter().enumerate().filter_map(silent)
    }

    /// Whether half of the hosts are silent, as seen from a region that is cut off from the other region.
    pub(super) fn is_cut_off(&self, now: Instant) -> bool {
        self.hosts.len() > 1 && self.silent(now).count() * 2 >= self.hosts.len()
    }

    /// What a host reports, if it answers and has this role.
    fn answers_as(&self, index: usize, role: Role) -> Option<Standing> {
        let report = &self.hosts[index].1;
        report.standing.filter(|standing| report.answers && standing.role == role)
    }

    /// The hosts of this role that can be used.
    fn usable(&self, role: Role) -> impl Iterator<Item = (usize, Standing)> {
        let hosts = self.hosts.iter().enumerate().filter(|(_, (_, report))| self.settled && report.problem.is_none());
        let standings = hosts.filter_map(|(index, (_, report))| Some((index, report.standing?)));
        standings.filter(move |(_, standing)| {
            standing.role == role && (role == Role::Replica || self.admits(standing.epoch))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::standing::tests::standing;
    use super::*;

    /// What a host reports.
    #[derive(Clone, Copy, Debug)]
    enum Said {
        Is(Standing),
        Gone,
    }
    use Said::{Gone, Is};

    /// Reports, each with the host's index.
    type Reports<'a> = &'a [(usize, Said)];

    fn primary(system: i64, region: i64, timeline: i32) -> Said {
        Is(standing(Role::Primary, system, region, timeline))
    }

    fn replica(replayed: i64) -> Said {
        Is(Standing { replayed, ..standing(Role::Replica, 7, 0, 0) })
    }

    fn without_table(said: Said) -> Said {
        match said {
            Is(standing) => Is(Standing { has_table: false, ..standing }),
            Gone => Gone,
        }
    }

    fn report(said: Said) -> Report {
        let heard = Some(Instant::now());
        match said {
            Is(standing) => {
                let problem = (!standing.has_table).then(|| "no table".into());
                Report { standing: Some(standing), answers: true, problem, heard, ..Report::default() }
            }
            Gone => Report { problem: Some("gone".into()), ..Report::default() },
        }
    }

    /// A view of hosts that reported these things, one after the other; what a host said stays known when it is lost.
    fn view(hosts: usize, reports: Reports<'_>) -> View {
        let mut view = View::new((0..hosts).map(|index| format!("host{index}").into()));
        for &(index, said) in reports {
            let mut report = report(said);
            report.standing = report.standing.or(view.hosts[index].1.standing);
            view.publish(index, report);
        }
        view
    }

    /// A name, how many hosts, what they report, and which are then the primary and the reader.
    type Case<'a> = (&'a str, usize, Reports<'a>, Option<usize>, Option<usize>);

    #[test]
    fn the_primary_and_the_reader_follow_from_what_the_hosts_said() {
        let cases: [Case<'_>; 15] = [
            ("nothing is known", 2, &[], None, None),
            ("one host of two was heard", 2, &[(0, primary(7, 0, 1))], None, None),
            ("a single host", 1, &[(0, primary(7, 0, 1))], Some(0), Some(0)),
            ("a primary and a replica", 2, &[(0, replica(9)), (1, primary(7, 0, 1))], Some(1), Some(1)),
            ("a dead host and a primary", 2, &[(0, Gone), (1, primary(7, 0, 1))], Some(1), Some(1)),
            (
                "replicas only: the one that replayed most",
                3,
                &[(0, replica(5)), (1, replica(9)), (2, Gone)],
                None,
                Some(1),
            ),
            ("a lost primary", 2, &[(0, primary(7, 0, 1)), (1, replica(9)), (0, Gone)], None, Some(1)),
            ("of two promotions the later", 2, &[(0, primary(7, 0, 1)), (1, primary(7, 0, 2))], Some(1), Some(1)),
            ("whichever is heard first", 2, &[(1, primary(7, 0, 2)), (0, primary(7, 0, 1))], Some(1), Some(1)),
            ("the region promoted later", 2, &[(0, primary(7, 1, 9)), (1, primary(7, 2, 3))], Some(1), Some(1)),
            (
                "a former primary is not used when the new one is lost",
                2,
                &[(0, primary(7, 0, 1)), (1, replica(9)), (1, primary(7, 0, 2)), (1, Gone)],
                None,
                None,
            ),
            (
                "of two clusters the first in the URL",
                2,
                &[(1, primary(8, 0, 5)), (0, primary(7, 0, 1))],
                Some(0),
                Some(0),
            ),
            (
                "another cluster is not used while the known one is lost",
                2,
                &[(0, primary(7, 0, 1)), (1, primary(8, 0, 5)), (0, Gone)],
                None,
                None,
            ),
            (
                "another cluster is used when the known one only reads",
                2,
                &[(0, primary(7, 0, 1)), (1, replica(9)), (0, replica(9)), (1, primary(8, 0, 5))],
                Some(1),
                Some(1),
            ),
            (
                "a primary without a table",
                2,
                &[(0, without_table(primary(7, 0, 1))), (1, without_table(replica(9)))],
                None,
                None,
            ),
        ];
        for (name, hosts, reports, primary, reader) in cases {
            let view = view(hosts, reports);
            assert_eq!((view.primary(), view.reader()), (primary, reader), "{name}");
        }
    }

    #[test]
    fn a_host_that_does_not_answer_at_first_contact_is_not_waited_for_for_ever() {
        let mut view = view(2, &[(0, primary(7, 0, 1))]);
        assert!(!view.reached);
        view.settle();
        assert_eq!((view.primary(), view.reached), (Some(0), true));
    }

    #[test]
    fn a_primary_of_an_older_promotion_of_the_same_cluster_is_not_admitted() {
        let view = view(1, &[(0, primary(7, 2, 5))]);
        let admits = |said: Said| matches!(said, Is(standing) if view.admits(standing.epoch));
        let same_region = [(primary(7, 2, 5), true), (primary(7, 2, 6), true), (primary(7, 2, 4), false)];
        let other_region = [(primary(7, 3, 5), true), (primary(7, 1, 6), false)];
        let other_cluster = [(primary(8, 2, 9), false), (primary(8, 3, 1), true)];
        for (said, admitted) in same_region.into_iter().chain(other_region).chain(other_cluster) {
            assert_eq!(admits(said), admitted, "{said:?}");
        }
    }

    #[test]
    fn a_cluster_that_was_made_again_on_the_same_host_is_admitted() {
        assert_eq!(view(1, &[(0, primary(7, 2, 5)), (0, primary(8, 0, 1))]).primary(), Some(0));
    }

    #[test]
    fn the_table_is_created_on_the_primary_that_is_to_be_used() {
        let (first, second) = (without_table(primary(7, 0, 1)), without_table(primary(7, 0, 2)));
        let cases: [(Reports<'_>, Option<usize>); 4] = [
            (&[(0, first), (1, second)], Some(1)),
            (&[(0, without_table(replica(9))), (1, first)], Some(1)),
            (&[(0, primary(7, 0, 1)), (1, replica(9))], None),
            (&[(0, without_table(replica(9))), (1, Gone)], None),
        ];
        for (reports, creator) in cases {
            assert_eq!(view(2, reports).creator(), creator, "{reports:?}");
        }
    }

    #[test]
    fn a_lane_leaves_a_host_for_the_primary_or_when_its_role_has_changed() {
        let two = |reports: Reports<'_>| view(2, reports);
        let with_primary = two(&[(0, replica(9)), (1, primary(7, 0, 1))]);
        assert!(with_primary.leaves(0, Role::Replica) && !with_primary.leaves(1, Role::Primary));
        let demoted = two(&[(0, primary(7, 0, 1)), (1, Gone), (0, replica(9))]);
        assert!(demoted.leaves(0, Role::Primary));
        let lost = two(&[(0, primary(7, 0, 1)), (1, replica(9)), (0, Gone)]);
        assert!(!lost.leaves(0, Role::Primary) && !lost.leaves(1, Role::Replica));
    }

    #[test]
    fn a_problem_names_the_former_primary_and_the_other_cluster() {
        let former = view(2, &[(0, primary(7, 0, 1)), (1, primary(7, 0, 2))]);
        assert!(former.problem(0).is_some_and(|problem| problem.contains("former")) && former.problem(1).is_none());
        let foreign = view(2, &[(0, primary(7, 0, 1)), (1, primary(8, 0, 2))]);
        assert!(foreign.problem(1).is_some_and(|problem| problem.contains("another cluster")));
        assert!(foreign.problem(0).is_none());
    }

    #[test]
    fn half_of_the_hosts_are_silent_once_nothing_was_heard_of_them_for_a_while() {
        let (now, later) = (Instant::now(), Instant::now() + SILENT_AFTER * 2);
        let mut view = view(2, &[(0, primary(7, 0, 1)), (1, replica(9))]);
        assert!(!view.is_cut_off(now) && view.is_cut_off(later));
        view.hosts[0].1.heard = Some(later);
        assert_eq!(view.silent(later).collect::<Vec<_>>(), [1]);
        assert!(!View::new(["host".into()].into_iter()).is_cut_off(later), "one host cannot be cut off from itself");
    }
}
