// SPDX-License-Identifier: GPL-2.0-or-later

// Package local is the Authenticator with accounts of its own, kept in one journal file and managed while it runs.
//
// # What is kept of a password
//
// Always an argon2id hash (RFC 9106), in the usual text form, from which the password cannot be had. Unless the account
// or the store says no, also the HA1 of DIGEST-MD5 (RFC 2831), since many TSP clients choose that mechanism by
// themselves; and for those who ask for it the key of CRAM-MD5. These two are as good as the password to whoever steals
// the file, within the realm and with that mechanism, and being bare MD5 they also let him try guesses fast. An account
// with NoDigest and without Cram is as safe as argon2id makes it.
//
// # PLAIN without waiting
//
// argon2id takes some 20 ms and 19 MiB on purpose: 50,000 subscribers who come back at once would keep two processors
// busy for eight minutes. So a password is first compared with what costs nothing: with the HA1 if the account has one
// (whoever could exploit that has the HA1 itself), else with a bounded table of passwords verified lately, which holds
// an HMAC of name, argon2id hash and password under a key that lives and dies with the process. A password that matches
// neither goes through argon2id, at most Options.Parallel at a time. So every wrong password costs the same, for accounts
// that exist and for those that do not.
//
// # Names
//
// A name is compared octet for octet: no folding of case and no normalization (the username-case-preserved profile of
// RFC 8265 without its mappings), since DIGEST-MD5 hashes what the client sent, and a mapped name would not fit its own
// hash. Operators are well served with lower-case ASCII. See ValidName for what a name may hold. A client that does not
// say charset=utf-8, or sends what is not UTF-8, is read as ISO 8859-1.
//
// # Failures
//
// See Limits: wrong passwords are counted for each account and source together, which bounds guessing and harms nobody
// else; for each source, which bounds guessing across accounts; and for each account, which slows logins from sources
// that never succeeded for it, but refuses none. So nobody can lock a subscriber out: from where he logged in before he
// is let in at full speed, from elsewhere with a delay.
package local
