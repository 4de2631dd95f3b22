//! `bus/shell/identity_filter.py`, which says what it is: the same two levels, with a hash of its own key.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

const SHARE: usize = 4;
const SMALLEST: usize = 256;
const FLAGS: usize = 8;
const TAG: u32 = 0xFFFF_0000;
const MOST_BUCKETS: usize = 0xFFFF;
const BITS: u32 = 8;

struct Generation {
    bit: u8,
    table: Vec<u32>,
    buckets: Vec<u64>,
    count: usize,
}

#[pyclass]
pub struct Filter {
    window: usize,
    most_buckets: usize,
    size: usize,
    mask: usize,
    flags: Vec<u8>,
    flag_mask: usize,
    made: u32,
    generations: VecDeque<Generation>,
    hasher: RandomState,
}

impl Filter {
    fn slot(&self, key: &[u8]) -> usize {
        self.hasher.hash_one(key) as usize
    }

    fn known(&self) -> usize {
        self.generations.iter().map(|each| each.count).sum()
    }

    /// Begin a generation, and drop those that the window no longer needs.
    fn begin(&mut self) {
        let mut gone = 0;
        while let Some(oldest) = self.generations.front() {
            if self.known() - oldest.count < self.window {
                break;
            }
            gone |= oldest.bit;
            self.generations.pop_front();
        }
        for each in &self.generations {
            gone &= !each.bit;
        }
        if gone != 0 {
            for flag in &mut self.flags {
                *flag &= !gone;
            }
        }
        self.generations.push_back(Generation {
            bit: 1 << (self.made % BITS),
            table: vec![0; self.mask + 1],
            buckets: Vec::new(),
            count: 0,
        });
        self.made += 1;
    }

    fn insert(&mut self, slot: usize) {
        let Some(youngest) = self.generations.back_mut() else { return };
        let mut at = slot & self.mask;
        while youngest.table[at] != 0 {
            at = (at + 1) & self.mask;
        }
        youngest.table[at] = tag(slot) | youngest.buckets.len() as u32;
        youngest.count += 1;
        self.flags[slot & self.flag_mask] |= youngest.bit;
    }
}

fn tag(slot: usize) -> u32 {
    (slot >> 14) as u32 & TAG
}

#[pymethods]
impl Filter {
    #[new]
    #[pyo3(signature = (window, most_buckets = MOST_BUCKETS))]
    fn new(window: usize, most_buckets: usize) -> Self {
        let size = (window / SHARE).max(SMALLEST);
        let slots = (2 * size).next_power_of_two();
        let flags = vec![0; FLAGS * slots];
        let flag_mask = flags.len() - 1;
        let mut made = Filter {
            window, most_buckets, size, mask: slots - 1, flags, flag_mask, made: 0, generations: VecDeque::new(),
            hasher: RandomState::new(),
        };
        made.begin();
        made
    }

    fn __len__(&self) -> usize {
        self.known()
    }

    /// Buckets where this identity may lie, newest last; empty when it is not among those that are known.
    fn buckets(&self, key: &Bound<'_, PyBytes>) -> Vec<u64> {
        let slot = self.slot(key.as_bytes());
        let bits = self.flags[slot & self.flag_mask];
        let mut found = Vec::new();
        if bits == 0 {
            return found;
        }
        for each in self.generations.iter().filter(|each| each.bit & bits != 0) {
            let mut at = slot & self.mask;
            while each.table[at] != 0 {
                if each.table[at] & TAG == tag(slot) {
                    found.push(each.buckets[(each.table[at] & !TAG) as usize - 1]);
                }
                at = (at + 1) & self.mask;
            }
        }
        found
    }

    /// Take in identities of a bucket; buckets come in order. One that is known already is kept twice.
    fn add(&mut self, bucket: u64, keys: Vec<Bound<'_, PyBytes>>) {
        for key in keys {
            let youngest = self.generations.back_mut().expect("one was begun");
            let full = youngest.count >= self.size
                || (youngest.buckets.last() != Some(&bucket) && youngest.buckets.len() == self.most_buckets);
            if full {
                self.begin();
            }
            let youngest = self.generations.back_mut().expect("one was begun");
            if youngest.buckets.last() != Some(&bucket) {
                youngest.buckets.push(bucket);
            }
            let slot = self.slot(key.as_bytes());
            self.insert(slot);
        }
    }
}
