// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

const (
	// credential is the password's name among systemd's credentials (LoadCredential=).
	credential = "tspc.password"
	// variable of the environment that may hold the password.
	variable = "TSPC_PASSWORD"
	// maxPassword is the longest password in octets.
	maxPassword = 1024
)

// FindPassword finds the password of c.User: in password_file, in password, among systemd's credentials, or in the
// environment (getenv), in this order. Files that everybody can read are refused. It is empty for the anonymous user.
func (c Config) FindPassword(getenv func(string) string) (string, error) {
	mechanisms, err := c.Mechanisms()
	if err != nil || len(mechanisms) == 1 && mechanisms[0] == "ANONYMOUS" {
		return "", err
	}
	if c.PasswordFile != "" {
		return readPassword(c.PasswordFile)
	}
	if c.Password != "" {
		return c.Password, c.secretFile()
	}
	if folder := getenv("CREDENTIALS_DIRECTORY"); folder != "" {
		password, err := readPassword(folder + "/" + credential)
		if !errors.Is(err, fs.ErrNotExist) {
			return password, err
		}
	}
	if password := getenv(variable); password != "" {
		return password, nil
	}
	return "", fmt.Errorf("no password for user %s: expected password_file or password in the configuration, the systemd "+
		"credential %s or the environment variable %s", c.User, credential, variable)
}

// secretFile refuses a configuration file with a password in it that everybody can read.
func (c Config) secretFile() error {
	if c.file == "" {
		return nil
	}
	info, err := os.Stat(c.file)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return secret(c.file, info)
}

func secret(path string, info fs.FileInfo) error {
	if info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 {
		return fmt.Errorf("%s holds a password and is open to everybody (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path)
	}
	return nil
}

// readPassword reads the first line of a file.
func readPassword(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("password: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("password: %w", err)
	}
	if err := secret(path, info); err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(file, maxPassword+2))
	if err != nil {
		return "", fmt.Errorf("password: %w", err)
	}
	password, _, _ := strings.Cut(string(b), "\n")
	password = strings.TrimSuffix(password, "\r")
	if password == "" || len(password) > maxPassword {
		return "", fmt.Errorf("password: the first line of %s has %d octets, expected 1 to %d", path, len(password), maxPassword)
	}
	return password, nil
}
