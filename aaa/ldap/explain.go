// SPDX-License-Identifier: GPL-2.0-or-later

package ldap

import (
	"crypto/x509"
	"fmt"
	"strings"

	ldapv3 "github.com/go-ldap/ldap/v3"
)

// explain adds why a bind was refused, where the directory tells: the code alone is that of a wrong password. One with a password
// policy (draft-behera-ldap-password-policy) has a control for it, Active Directory a number in the text.
func explain(err error, result *ldapv3.SimpleBindResult) error {
	if why := windowsReason(err); why != "" {
		return fmt.Errorf("%w (%s)", err, why)
	}
	if result == nil {
		return err
	}
	policy, ok := ldapv3.FindControl(result.Controls, ldapv3.ControlTypeBeheraPasswordPolicy).(*ldapv3.ControlBeheraPasswordPolicy)
	if !ok || policy.Error < 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, policy.ErrorString)
}

// windowsReasons are the system error codes of Windows, in hex, by which Active Directory refuses a bind.
var windowsReasons = map[string]string{
	"525": "no such account",
	"52e": "wrong password",
	"530": "not at this time of day",
	"531": "not from this host",
	"532": "the password has expired",
	"533": "the account is disabled",
	"568": "the account is in too many groups",
	"701": "the account has expired",
	"773": "the password must be changed first",
	"775": "the account is locked after too many wrong passwords",
}

// windowsReason finds the number in a text such as "... AcceptSecurityContext error, data 52e, v4563" and says what it means, "" if
// there is none that is known.
func windowsReason(err error) string {
	if !ldapv3.IsErrorWithCode(err, ldapv3.LDAPResultInvalidCredentials) {
		return ""
	}
	_, text, _ := strings.Cut(err.Error(), "AcceptSecurityContext error, data ")
	number, _, _ := strings.Cut(text, ",")
	return windowsReasons[strings.ToLower(number)]
}

// advise adds what to do about a certificate that was signed by somebody unknown: most directories have a CA of their own. After
// StartTLS the library hands on the text of the error alone.
func advise(err error) error {
	if strings.Contains(err.Error(), (x509.UnknownAuthorityError{}).Error()) {
		return fmt.Errorf("%w: ca_file has to hold the certificate of who signed it", err)
	}
	return err
}
