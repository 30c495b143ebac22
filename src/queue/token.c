/* token.c - see token.h. */
#include "queue/token.h"

#include <errno.h>
#include <openssl/evp.h>

#include "base/bytes.h"

static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";

static EVP_CIPHER_CTX *open_cipher(const char bytes[TOKEN_KEY_BYTES], int encipher)
{
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();

    if (cipher &&
        EVP_CipherInit_ex(cipher, EVP_aes_128_ecb(), NULL, (const unsigned char *)bytes, NULL, encipher) ==
            1 &&
        EVP_CIPHER_CTX_set_padding(cipher, 0) == 1)
        return cipher;
    EVP_CIPHER_CTX_free(cipher);
    return NULL;
}

int token_key_open(struct token_key *key, const char bytes[TOKEN_KEY_BYTES])
{
    key->encipher = open_cipher(bytes, 1);
    key->decipher = open_cipher(bytes, 0);
    if (key->encipher && key->decipher)
        return 0;
    token_key_close(key);
    return -ENOMEM;
}

void token_key_close(struct token_key *key)
{
    EVP_CIPHER_CTX_free(key->encipher);
    EVP_CIPHER_CTX_free(key->decipher);
    *key = (struct token_key){0};
}

static bool one_block(void *cipher, const unsigned char in[16], unsigned char out[16])
{
    int n = 0;

    return EVP_CipherUpdate(cipher, out, &n, in, 16) == 1 && n == 16;
}

bool token_put(const struct token_key *key, uint32_t address, uint64_t number, char text[TOKEN_TEXT])
{
    unsigned char plain[16] = {0}, block[16];
    unsigned held = 0, bits = 0;
    size_t n = 0;

    put_u64le((char *)plain, number);
    put_u32le((char *)plain + 8, address);
    if (!one_block(key->encipher, plain, block))
        return false;
    for (size_t i = 0; i < sizeof block; i++) {
        held = held << 8 | block[i];
        for (bits += 8; bits >= 5; bits -= 5)
            text[n++] = letters[held >> (bits - 5) & 31];
    }
    text[n] = letters[held << (5 - bits) & 31];
    return true;
}

static int letter_value(char c)
{
    if (c >= 'a' && c <= 'z')
        return c - 'a';
    return c >= '2' && c <= '7' ? c - '2' + 26 : -1;
}

bool token_take(const struct token_key *key, struct slice text, uint32_t *address, uint64_t *number)
{
    unsigned char block[16], plain[16];
    unsigned held = 0, bits = 0;
    size_t n = 0;

    if (text.len != TOKEN_TEXT)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        int value = letter_value(text.ptr[i]);

        if (value < 0)
            return false;
        held = held << 5 | (unsigned)value;
        bits += 5;
        if (bits >= 8) {
            bits -= 8;
            block[n++] = (unsigned char)(held >> bits);
        }
    }
    if ((held & ((1u << bits) - 1)) != 0 || !one_block(key->decipher, block, plain))
        return false;
    *number = get_u64le((char *)plain);
    *address = get_u32le((char *)plain + 8);
    return get_u32le((char *)plain + 12) == 0;
}
