// SPDX-License-Identifier: GPL-2.0-or-later

package config

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that is written with a unit: "30s", "5m", "12h", "7d". A bare number is refused, since
// nobody can tell its unit.
type Duration struct{ time.Duration }

const day = 24 * time.Hour

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	value, err := parseDuration(string(text))
	if err != nil {
		return err
	}
	d.Duration = value
	return nil
}

// MarshalText implements encoding.TextMarshaler; what it writes UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String writes whole days as days and leaves out zero minutes and seconds.
func (d Duration) String() string {
	if d.Duration == 0 {
		return "0s"
	}
	if d.Duration%day == 0 {
		return strconv.FormatInt(int64(d.Duration/day), 10) + "d"
	}
	text := d.Duration.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// parseDuration reads what time.ParseDuration reads, and whole days such as "7d".
func parseDuration(text string) (time.Duration, error) {
	if days, found := strings.CutSuffix(text, "d"); found {
		count, err := strconv.ParseUint(days, 10, 16)
		if err != nil || count > 36500 {
			return 0, errors.New("not a number of days up to 36500")
		}
		return time.Duration(count) * day, nil
	}
	value, err := time.ParseDuration(text)
	if err != nil {
		return 0, err
	}
	if value < 0 {
		return 0, errors.New("negative")
	}
	return value, nil
}
