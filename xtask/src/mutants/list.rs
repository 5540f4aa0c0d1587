//! The deliberate bugs.

/// One change of one file.
pub struct Mutation {
    /// What it does, in words.
    pub name: &'static str,
    /// The file, from the root.
    pub file: &'static str,
    /// Stands there exactly once.
    pub find: &'static str,
    /// Stands there instead.
    pub replace: &'static str,
}

/// All of them. The last ones undo the mending of defects that the world itself has found.
pub const MUTATIONS: [Mutation; 29] = [
    Mutation {
        name: "acknowledge before the commit",
        file: "src/cycle.rs",
        find: "effects.acks.iter().filter(|ack| ack.epoch == epoch).copied().collect();",
        replace: "effects.acks.iter().chain(&self.open.acks).filter(|ack| ack.epoch == epoch).copied().collect();",
    },
    Mutation {
        name: "forget a mark on flash",
        file: "src/marks.rs",
        find: "encode(&self.open.marks, scratch);",
        replace: "encode(&self.open.marks[1..], scratch);",
    },
    Mutation {
        name: "the first confirmation of a connection lets older marks go",
        file: "src/marks.rs",
        find: "            batch.is_old = true;\n",
        replace: "",
    },
    Mutation {
        name: "count a duplicate",
        file: "src/gateway/message.rs",
        find: "if dup && self.marks.is_duplicate(packet_id, hash) {",
        replace: "if dup && hash == 7 && self.marks.is_duplicate(packet_id, hash) {",
    },
    Mutation {
        name: "sync the journal after the acknowledgement (never)",
        file: "src/store/journal.rs",
        find: "        active.file.sync_data().map_err(CommitError::from_sync)?;\n",
        replace: "",
    },
    Mutation {
        name: "no sync of big lane frames",
        file: "src/store/lane_log.rs",
        find: "        if !planned.place.inline {\n",
        replace: "        if !planned.place.inline && buffer.is_empty() {\n",
    },
    Mutation {
        name: "try a failed sync again as if nothing had happened",
        file: "src/store/mod.rs",
        find: "        Self::Failed(format!(\"sync: {error}\"))\n",
        replace: "        let _ = error;\n        Self::Full\n",
    },
    Mutation {
        name: "drop open windows on a restart",
        file: "src/window/durable.rs",
        find: "        meter.put_back(window, cell_key, stats, quality);\n",
        replace: "        let _ = (stats, quality);\n",
    },
    Mutation {
        name: "delete a segment early",
        file: "src/store/lane_log.rs",
        find: "self.extents.front().is_some_and(|extent| extent.segment < below)",
        replace: "self.extents.front().is_some_and(|extent| extent.segment <= below)",
    },
    Mutation {
        name: "skip the entry of a lane's head",
        file: "src/outbox.rs",
        find: "                lane.save(entries, scratch);\n            }\n        }\n    }\n",
        replace: "                let _ = (&mut *entries, &mut *scratch);\n            }\n        }\n    }\n",
    },
    Mutation {
        name: "replay keeps older values",
        file: "src/store/recover.rs",
        find: "Some(value) => self.entries.insert(entry.key, value.to_vec()),\n                None => self",
        replace: "Some(value) => Some(self.entries.entry(entry.key).or_insert(value.to_vec()).clone()),\n                None => self",
    },
    Mutation {
        name: "replay adds what it finds to the books",
        file: "src/gateway/durable.rs",
        find: "rest == BOOKS_KEY => self.books = Books::restore(value)?,",
        replace: "rest == BOOKS_KEY => { self.books = Books::restore(value)?; self.books.received *= 2; }",
    },
    Mutation {
        name: "no second copy of the last commit at a start",
        file: "src/store/recover.rs",
        find: "            recommit(&mut base, &mut journal, scan)?;\n",
        replace: "            let _ = (scan, recommit::<D>);\n",
    },
    Mutation {
        name: "ignore the checksum of a commit",
        file: "src/store/scan.rs",
        find: "read == body.len() && crc32fast::hash(body) == header.body_crc",
        replace: "read == body.len() && header.body_crc != 1",
    },
    Mutation {
        name: "a snapshot loses a lane's tail",
        file: "src/store/mod.rs",
        find: "let known = self.lanes.iter().filter(|lane| lane.tail.segment > 0);",
        replace: "let known = self.lanes.iter().filter(|lane| lane.tail.segment > 0).skip(1);",
    },
    Mutation {
        name: "the journal lets go before the snapshot is durable",
        file: "src/store/snapshot.rs",
        find: "        file.sync_data()?;\n        base.stats.syncs += 1;\n        base.stats.snapshot_bytes += self.len;\n",
        replace: "        base.stats.snapshot_bytes += self.len;\n",
    },
    Mutation {
        name: "small lane frames are not made durable before the journal lets go",
        file: "src/store/lane_log.rs",
        find: "        self.clean(base)?;\n        self.sync(base)?;\n        self.tail.end = align_up(self.tail.end, PAGE);\n",
        replace: "        self.clean(base)?;\n        self.tail.end = align_up(self.tail.end, PAGE);\n",
    },
    Mutation {
        name: "what a commit left behind that did not happen is not wiped",
        file: "src/store/lane_log.rs",
        find: "                file.write_at(u64::from(at + index as u32 * CELL), &[0; CELL as usize])?;\n",
        replace: "",
    },
    Mutation {
        name: "every record settles a message",
        file: "src/outbox.rs",
        find: "                books.delivered += message;\n",
        replace: "                books.delivered += 1;\n",
    },
    Mutation {
        name: "what fails costs no fuel",
        file: "src/function/mod.rs",
        find: "        self.usage.fuel += self.fuel.0.saturating_sub(guest.fuel_left());\n        match returned {",
        replace: "        self.usage.fuel += if returned.is_ok() { self.fuel.0.saturating_sub(guest.fuel_left()) } else { 0 };\n        match returned {",
    },
    Mutation {
        name: "retained messages come again with every subscription",
        file: "src/gateway/message.rs",
        find: "RetainedPolicy::SkipOnResubscribe => !is_old(),",
        replace: "RetainedPolicy::SkipOnResubscribe => is_old() || true,",
    },
    Mutation {
        name: "late values are not counted",
        file: "src/gateway/mod.rs",
        find: "self.late += u64::from(fold.lateness != Lateness::OnTime);",
        replace: "self.late += u64::from(fold.lateness == Lateness::TooLate);",
    },
    Mutation {
        name: "found: a clock before 1970 makes commit numbers begin again",
        file: "src/gateway/durable.rs",
        find: "        self.commit = commit;\n        // A clock",
        replace: "        self.commit = if wall_ms < 0 { 0 } else { commit };\n        // A clock",
    },
    Mutation {
        name: "found: the record of a loss begins a segment that nobody reckoned with",
        file: "src/outbox.rs",
        find: "let bytes = if is_old { Self::next_segment_bytes } else { Self::frame_bytes };",
        replace: "let bytes = if is_old { Self::frame_bytes } else { Self::frame_bytes };",
    },
    Mutation {
        name: "found: marks are bounded by our Receive Maximum also in 3.1.1",
        file: "src/marks.rs",
        find: "while MARKS_MAX < self.count {",
        replace: "while (4 * self.receive_max).min(MARKS_MAX) < self.count {",
    },
    Mutation {
        name: "found: a failed read is a loss",
        file: "src/store/read.rs",
        find: "let passes_over = TRIES_MAX <= self.failed_reads;",
        replace: "let passes_over = self.failed_reads <= TRIES_MAX;",
    },
    Mutation {
        name: "found: a closed segment counts only what is used of it",
        file: "src/outbox.rs",
        find: "closed.bytes = closed.bytes.max(u32::try_from(segment_bytes).unwrap_or(u32::MAX));",
        replace: "closed.bytes = closed.bytes.max(1);",
    },
    Mutation {
        name: "found: lanes do not know that a snapshot begins a page",
        file: "src/outbox.rs",
        find: "                last.bytes = align_up(last.bytes, PAGE);\n",
        replace: "                last.bytes = last.bytes.max(1);\n",
    },
    Mutation {
        name: "found: no room is made for a segment that begins because the last has grown old",
        file: "src/gateway/durable.rs",
        find: "        self.outbox.make_way(now, &mut self.books, &mut effects.releases);\n",
        replace: "",
    },
];
