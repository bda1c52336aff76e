"""The product's own health code in virtual time, against mirrors and origins that are models."""
