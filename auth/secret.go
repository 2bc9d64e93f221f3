package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"strings"
)

// secretPrefix begins the secrets of a tokens file. Scanners of published code search for
// such prefixes.
const secretPrefix = "smt_"

const (
	secretRandom   = 20 // bytes: 160 bits
	secretChecksum = 4  // bytes of CRC-32 (IEEE) of the random ones
)

var secretText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewSecret returns the secret of a new token: smt_ and 39 characters of base32 (RFC 4648,
// in lower case), which are 160 random bits and their checksum.
func NewSecret() string {
	raw := make([]byte, secretRandom, secretRandom+secretChecksum)
	_, _ = rand.Read(raw) // it does not fail
	return secretPrefix + secretText.EncodeToString(binary.BigEndian.AppendUint32(raw, crc32.ChecksumIEEE(raw)))
}

// isSecret reports whether a text has the form of a secret that NewSecret returns.
func isSecret(text string) bool {
	rest, ok := strings.CutPrefix(text, secretPrefix)
	if !ok || len(rest) != secretText.EncodedLen(secretRandom+secretChecksum) {
		return false
	}
	raw, err := secretText.DecodeString(rest)
	return err == nil && secretText.EncodeToString(raw) == rest && crc32.ChecksumIEEE(raw[:secretRandom]) == binary.BigEndian.Uint32(raw[secretRandom:])
}

// hashPrefix begins the hashes in a tokens file. It names the function.
const hashPrefix = "sha256:"

// HashOf returns the hash of a secret as a tokens file has it: sha256: and 64 hexadecimal
// digits. A hash without salt is enough for 160 random bits.
func HashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hashPrefix + hex.EncodeToString(sum[:])
}

// ParseHash parses a hash of [HashOf].
func ParseHash(text string) (sum [sha256.Size]byte, ok bool) {
	digits, ok := strings.CutPrefix(text, hashPrefix)
	if !ok {
		return sum, false
	}
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) != len(sum) {
		return sum, false
	}
	return [sha256.Size]byte(raw), true
}
