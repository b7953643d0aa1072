"""Values of torch, torchcfm and torch.optim that tests/plugins/net compares with.

Weights follow a formula of their name and shape, known to the test too, so that only results are
stored. Usage: python torch_nets.py > ../plugins/net/torch_nets.h   (torch 2.15, torchcfm 1.0.7)
"""
import math

import torch
from torchcfm.models.unet.unet import UNetModelWrapper

torch.set_default_dtype(torch.float64)
# ADM casts to single precision in places: the reference is double throughout.
torch.Tensor.float = torch.Tensor.double
torch.float32 = torch.float64


def wave(name, n):
    phase = sum(name.encode())
    i = torch.arange(n)
    return torch.sin(0.7 * phase + 1.3 * i + 0.2 * (i % 7))


def fill(module):
    for name, p in module.named_parameters():
        w = wave(name, p.numel()).reshape(p.shape)
        if p.ndim == 1:
            w = 1 + 0.2 * w if name.endswith("weight") else 0.1 * w
        else:
            w = w / math.sqrt(p.numel() / p.shape[0])
        p.data = w.clone()


def emit(name, values):
    values = torch.as_tensor(values).detach().reshape(-1).tolist()
    print(f"static const double {name}[{len(values)}] = {{")
    for i in range(0, len(values), 4):
        print("    " + " ".join(f"{v:.17g}," for v in values[i : i + 4]))
    print("};\n")


def results(tag, module, v, x, nhwc=False):
    """v, the gradient in x of <v, wave("cot")>, and <gradient, wave(name)> of all parameters."""
    flat = (lambda a: a.permute(0, 2, 3, 1)) if nhwc else (lambda a: a)
    out = flat(v)
    params = list(module.named_parameters())
    loss = (out.reshape(-1) * wave("cot", out.numel())).sum()
    grads = torch.autograd.grad(loss, [x] + [p for _, p in params])
    emit(f"{tag}_v", out)
    emit(f"{tag}_dx", flat(grads[0]))
    dots = [(n, (g.reshape(-1) * wave(n, g.numel())).sum()) for (n, _), g in zip(params, grads[1:])]
    print(f"static const TorchDot {tag}_dots[] = {{")
    for n, d in dots:
        print(f'    {{"{n}", {d.item():.17g}}},')
    print("    {NULL, 0.0},\n};\n")


class Mlp(torch.nn.Module):
    def __init__(self, sizes, act):
        super().__init__()
        self.layers = torch.nn.ModuleList(
            [torch.nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:])]
        )
        self.act = act

    def forward(self, h):
        for layer in self.layers[:-1]:
            h = self.act(layer(h))
        return self.layers[-1](h)


F = torch.nn.functional
ACTS = {
    "silu": F.silu, "relu": F.relu, "tanh": torch.tanh, "gelu": F.gelu, "selu": F.selu,
    "elu": F.elu, "softplus": F.softplus, "sin": torch.sin, "identity": lambda x: x,
}
B = 3
T = 0.5 + 0.45 * wave("t", B)
Y = torch.tensor([2, 0, 1])


def mlps():
    for name, act in ACTS.items():
        x = (2 * wave("x", B * 2).reshape(B, 2)).requires_grad_()
        net = Mlp([3, 5, 7, 2], act)
        fill(net)
        # Wider weights reach both branches of each non-linearity.
        results(f"mlp_{name}", net, net(torch.cat([x, T[:, None]], 1)), x)
    x = (2 * wave("x", B * 2).reshape(B, 2)).requires_grad_()
    net = Mlp([2 + 7 + 3, 5, 2], F.silu)
    fill(net)
    angle = 2 * math.pi * T[:, None] * torch.arange(1, 4)
    h = torch.cat([x, T[:, None], angle.cos(), angle.sin(), F.one_hot(Y, 3).double()], 1)
    results("mlp_fourier", net, net(h), x)


def unets():
    common = dict(num_channels=32, num_res_blocks=1, channel_mult=[1, 2])
    variants = {
        "unet_plain": dict(attention_resolutions="4", num_heads=2),
        "unet_label": dict(attention_resolutions="4", num_heads=4, class_cond=True, num_classes=3),
        "unet_other": dict(
            attention_resolutions="8", num_head_channels=16, use_scale_shift_norm=True,
            resblock_updown=True, use_new_attention_order=True,
        ),
    }
    for tag, options in variants.items():
        net = UNetModelWrapper(dim=(2, 8, 8), **common, **options)
        fill(net)
        x = wave("x", B * 128).reshape(B, 8, 8, 2).permute(0, 3, 1, 2).clone().requires_grad_()
        v = net(T, x, Y) if options.get("class_cond") else net(T, x)
        results(tag, net, v, x, nhwc=True)


def optimizers():
    make = {
        "adam": lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.7, weight_decay=0.3),
        "nesterov": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.7, weight_decay=0.3, nesterov=True),
        "plain": lambda p: torch.optim.SGD(p, lr=0.02),
    }
    for name, new in make.items():
        p = torch.nn.Parameter(wave("p", 9))
        opt = new([p])
        for step in range(1, 8):
            p.grad = 0.7 * (p.detach() + wave(f"grad{step}", 9))
            opt.step()
        emit(f"torch_{name}", p)


print("/* torch_nets.h: made by tests/references/torch_nets.py; do not edit. */")
print("#include <stddef.h>\n")
print("typedef struct TorchDot {\n    const char *name;\n    double dot;\n} TorchDot;\n")
mlps()
unets()
optimizers()
