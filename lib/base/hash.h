/* A checksum of 64 bits: for files that are our own, and for telling models apart.  Not
 * against an adversary. */
#ifndef MK_HASH_H
#define MK_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Of n bytes, going on from an earlier result (or any number to begin with).  A change within
 * eight bytes that stand at a multiple of eight always changes the result; any other goes
 * unseen with a probability of about 2^-64.  The same on all little-endian machines. */
uint64_t mk_hash(uint64_t h, const void *data, size_t n);

/* One number. */
uint64_t mk_hash_u64(uint64_t h, uint64_t v);

#endif
