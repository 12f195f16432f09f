// SPDX-License-Identifier: GPL-2.0-or-later

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// lookForwarding reads which interfaces are set to forward. Setting all/forwarding sets every interface and the default
// of new ones; so those that differ from all are what undoing has to bring back: old is their names.
func (l linux) lookForwarding() (old string, present bool, err error) {
	all, err := readSetting(l.conf + "/all/forwarding")
	if err != nil || all != "0" {
		return "", all != "0", err
	}
	paths, err := filepath.Glob(l.conf + "/*/forwarding")
	if err != nil {
		return "", false, err
	}
	var forwarding []string
	for _, path := range paths {
		value, err := readSetting(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the interface went meanwhile
		}
		if err != nil {
			return "", false, err
		}
		if value != "0" {
			forwarding = append(forwarding, filepath.Base(filepath.Dir(path)))
		}
	}
	return strings.Join(forwarding, " "), false, nil
}

// restoreForwarding turns forwarding off except on the interfaces old names.
func (l linux) restoreForwarding(old string) error {
	if err := writeSetting(l.conf+"/all/forwarding", "0"); err != nil {
		return err
	}
	for name := range strings.FieldsSeq(old) {
		if err := writeSetting(l.conf+"/"+name+"/forwarding", "1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// readSetting reads a file of /proc/sys.
func readSetting(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// writeSetting writes a file of /proc/sys.
func writeSetting(path, value string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("%w (is /proc/sys writable?)", err)
	}
	_, err = file.WriteString(value)
	return errors.Join(err, file.Close())
}
