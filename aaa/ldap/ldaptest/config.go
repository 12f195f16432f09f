// SPDX-License-Identifier: GPL-2.0-or-later

package ldaptest

// radiusprofile has, by the names of FreeRADIUS's schema, what the tests use of it.
const radiusprofile = `
attributetype ( 1.3.6.1.4.1.32473.389.101 NAME 'radiusReplyAttribute'
	EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
attributetype ( 1.3.6.1.4.1.32473.389.102 NAME 'radiusIdleTimeout'
	EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.32473.389.103 NAME 'radiusClass'
	EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
attributetype ( 1.3.6.1.4.1.32473.389.104 NAME 'dialupAccess'
	EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.32473.389.105 NAME 'radiusProfileDN'
	EQUALITY distinguishedNameMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.32473.389.110 NAME 'radiusprofile' SUP top AUXILIARY
	MAY ( radiusReplyAttribute $ radiusIdleTimeout $ radiusClass $ dialupAccess $ radiusProfileDN ) )
objectclass ( 1.3.6.1.4.1.32473.389.111 NAME 'radiusObjectProfile' SUP top STRUCTURAL
	MUST cn )
`

const slapdConf = `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include @/radiusprofile.schema
include @/ddtb.schema
modulepath /usr/lib/ldap
moduleload back_mdb.so
moduleload memberof.so
moduleload ppolicy.so
TLSCACertificateFile @/cert.pem
TLSCertificateFile @/cert.pem
TLSCertificateKeyFile @/key.pem
TLSVerifyClient never
threads 8
access to dn.base="" by * read
access to attrs=userPassword
	by dn.exact="` + DigestDN + `" read
	by anonymous auth
	by * none
access to attrs=ddtbDigestHA1
	by dn.exact="` + DigestDN + `" read
	by * none
access to *
	by dn.exact="` + ReaderDN + `" read
	by dn.exact="` + DigestDN + `" read
	by anonymous auth
	by * none
database mdb
maxsize 1073741824
suffix "` + Suffix + `"
rootdn "` + AdminDN + `"
rootpw ` + AdminPassword + `
directory @/db
index objectClass,uid,member eq
dbnosync
overlay memberof
memberof-refint TRUE
overlay ppolicy
`

const base = `dn: ` + Suffix + `
objectClass: dcObject
objectClass: organization
dc: isp
o: ISP

dn: ou=services,` + Suffix + `
objectClass: organizationalUnit
ou: services

dn: ` + ReaderDN + `
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: ` + ServicePass + `

dn: ` + DigestDN + `
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: digest
userPassword: ` + ServicePass + `

`
