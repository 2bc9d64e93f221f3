// Package boltpage reads the pages of a bbolt file without bbolt. [Check] finds damage on
// which bbolt would panic. [Salvage] reads the undamaged rest.
package boltpage
