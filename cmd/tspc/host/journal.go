// SPDX-License-Identifier: GPL-2.0-or-later

package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// entry is a change this program made.
type entry struct {
	Change change `json:"change"`
	Old    string `json:"old,omitempty"` // what undoing brings back
}

// journal is the file that holds the entries in force. It survives the process, not the machine, like what it lists.
type journal string

// read gives the entries; without a file there are none.
func (j journal) read() ([]entry, error) {
	b, err := os.ReadFile(string(j))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var entries []entry
	if err := json.Unmarshal(b, &entries); err != nil {
		return nil, fmt.Errorf("journal %s is damaged (%w): look for addresses and routes a killed tspc left, then delete it", j, err)
	}
	return entries, nil
}

// write puts entries in place of the old ones at once; without entries the file goes.
func (j journal) write(entries []entry) error {
	if len(entries) == 0 {
		if err := os.Remove(string(j)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("journal: %w", err)
		}
		return nil
	}
	b, err := json.MarshalIndent(entries, "", "  ")
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := WriteFile(string(j), b, 0o600); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// WriteFile replaces the file at path by one with content b at once: a reader sees the old or the new one.
func WriteFile(path string, b []byte, mode fs.FileMode) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, b, mode); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}
