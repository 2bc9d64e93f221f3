// Package boltpage reads the pages of a bbolt file without bbolt. [Check] finds
// damage before bbolt meets it and panics; [Salvage] reads what damage has left.
package boltpage
