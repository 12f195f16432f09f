// SPDX-License-Identifier: GPL-2.0-or-later

// Package ldap finds subscribers in an LDAP directory (RFC 4511): OpenLDAP, Active Directory or another.
//
// A login is a search with the service account, for exactly one entry, and then a bind with the DN it returned and the
// password given. The two never share a connection: a bind ends the operations under way on its connection and changes who
// it speaks as. So a server has a few search connections, bound as the service account and shared by all logins, and a pool of
// bind connections, each used by one login at a time and never searched on.
//
//	Authenticator ──► directory ──► server 1 ──► searchers (shared)
//	                            │            └─► binders (exclusive)
//	                            └─► server 2       when the first cannot answer
//
// invalidCredentials (49) to a subscriber's bind is an answer: no other server is asked, or three servers would count three
// failures and lock the account. DIGEST-MD5 and CRAM-MD5 need a service account that may read a clear password or HA1.
package ldap
