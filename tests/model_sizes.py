"""The registered networks by module, first the one that `make test` runs for real; their sizes as torchvision, timm or papers give them."""

FAMILIES = {
    "LeNet5": ["lenet5"],
    "LeNet5Modern": ["lenet5_modern"],
    "AlexNet": ["alexnet", "alexnet_2012"],
    "VGG": ["vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"],
    "ResNet": ["resnet8", "resnet20", "resnet56", "resnet110", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "seresnet18",
               "resnet18_antialiased", "resnext50_32x4d", "seresnet50", "resnet50d", "resnet50_antialiased", "resnet101d",
               "wide_resnet50_2", "resnext101_64x4d", "resnext101_32x8d", "wide_resnet101_2"],
    "PreActivationResNet": ["preresnet20", "preresnet56", "preresnet110", "preresnet164", "preresnet18", "preresnet34", "preresnet50",
                            "preresnet101", "preresnet152", "preresnet200", "wrn_40_2", "wrn_16_4", "wrn_40_4", "wrn_16_8", "wrn_28_10"],
    "PlainNet": ["plain20", "plain56", "plain18", "plain34"],
    "AllCNN": ["all_cnn_c"],
    "GoogLeNet": ["googlenet"],
    "InceptionV3": ["inception_v3"],
    "MobileNetV2": ["mobilenet_v2"],
    "EfficientNet": [f"efficientnet_b{i}" for i in range(8)],
    "DenseNet": ["densenet100", "densenet121", "densenet169", "densenet201", "densenet161"],
    "ConvNeXt": ["convnext_tiny", "convnext_small", "convnext_base", "convnext_large"],
}  # fmt: skip

_IMAGENET, _CIFAR = (224, 224, 3), (32, 32, 3)

# name -> (classes, input, parameters)
PUBLISHED = {
    "lenet5": (10, (32, 32, 1), 60_000),
    "lenet5_modern": (10, (28, 28, 1), 61_706),
    "resnet8": (10, _CIFAR, 78_042),
}
PUBLISHED |= {
    name: (1000, _IMAGENET, num)
    for name, num in {
        "alexnet": 61_100_840,
        "vgg11": 132_863_336,
        "vgg13": 133_047_848,
        "vgg16": 138_357_544,
        "vgg19": 143_667_240,
        "vgg11_bn": 132_868_840,
        "vgg13_bn": 133_053_736,
        "vgg16_bn": 138_365_992,
        "vgg19_bn": 143_678_248,
        "resnet18": 11_689_512,
        "resnet34": 21_797_672,
        "resnet50": 25_557_032,
        "resnet101": 44_549_160,
        "resnet152": 60_192_808,
        "resnext50_32x4d": 25_028_904,
        "resnext101_32x8d": 88_791_336,
        "resnext101_64x4d": 83_455_272,
        "wide_resnet50_2": 68_883_240,
        "wide_resnet101_2": 126_886_696,
        "seresnet50": 28_088_024,
        "resnet50d": 25_576_264,
        "resnet50_antialiased": 25_557_032,
        "googlenet": 6_624_904,
        "mobilenet_v2": 3_504_872,
        "efficientnet_b0": 5_288_548,
        "efficientnet_b1": 7_794_184,
        "efficientnet_b2": 9_109_994,
        "efficientnet_b3": 12_233_232,
        "efficientnet_b4": 19_341_616,
        "efficientnet_b5": 30_389_784,
        "efficientnet_b6": 43_040_704,
        "efficientnet_b7": 66_347_960,
        "densenet121": 7_978_856,
        "densenet161": 28_681_000,
        "densenet169": 14_149_480,
        "densenet201": 20_013_928,
        "convnext_tiny": 28_589_128,
        "convnext_small": 50_223_688,
        "convnext_base": 88_591_464,
        "convnext_large": 197_767_336,
    }.items()
}
# CIFAR nets: the papers round (0.27 M, 1.7 M, 36.5 M, 1.3 M, 0.8 M …); these are the counts of the authors' programs, or what the
# published layers add up to.
PUBLISHED |= {
    name: (10, _CIFAR, num)
    for name, num in {
        "resnet20": 272_474,
        "resnet56": 855_770,
        "resnet110": 1_730_714,
        "preresnet20": 272_282,
        "preresnet56": 855_578,
        "preresnet110": 1_730_522,
        "preresnet164": 1_703_258,
        "wrn_16_4": 2_748_890,
        "wrn_16_8": 10_961_370,
        "wrn_28_10": 36_479_194,
        "wrn_40_2": 2_243_546,
        "wrn_40_4": 8_949_210,
        "plain20": 269_722,
        "plain56": 853_018,
        "all_cnn_c": 1_369_738,
        "densenet100": 769_162,
    }.items()
}
# The same for ImageNet nets of which only rounded counts are published.
PUBLISHED |= {
    name: (1000, _IMAGENET, num)
    for name, num in {
        "alexnet_2012": 60_965_224,
        "seresnet18": 11_778_592,
        "resnet101d": 44_568_392,
        "resnet18_antialiased": 11_689_512,
        "preresnet18": 11_687_720,
        "preresnet34": 21_795_880,
        "preresnet50": 25_549_352,
        "preresnet101": 44_541_480,
        "preresnet152": 60_185_128,
        "preresnet200": 64_666_152,
        "plain18": 11_515_688,
        "plain34": 21_623_848,
    }.items()
}
PUBLISHED["inception_v3"] = (1000, (299, 299, 3), 23_834_568)

# GMACs of one image where torchvision's table, timm (seresnet50, resnet50d, resnet101d, preresnet50), pytorchcv's CIFAR-10 table or the
# papers give them. Some count BatchNorm and pooling too, and the papers round: within 3 % of the convolutions' and products'.
MACS = {
    "alexnet": 0.714, "alexnet_2012": 0.724, "vgg11": 7.609, "vgg11_bn": 7.609, "vgg13": 11.308, "vgg13_bn": 11.308, "vgg16": 15.47,
    "vgg16_bn": 15.47, "vgg19": 19.632, "vgg19_bn": 19.632, "resnet18": 1.814, "resnet34": 3.664, "resnet50": 4.089, "resnet101": 7.801,
    "resnet152": 11.514, "resnext50_32x4d": 4.23, "resnext101_32x8d": 16.414, "resnext101_64x4d": 15.46, "wide_resnet50_2": 11.398,
    "wide_resnet101_2": 22.753, "seresnet50": 4.11, "resnet50d": 4.35, "resnet101d": 8.08, "preresnet50": 4.09, "plain18": 1.8,
    "plain34": 3.6, "resnet20": 0.04129, "resnet56": 0.12706, "resnet110": 0.2557, "preresnet20": 0.04127, "preresnet56": 0.12703,
    "preresnet110": 0.25568, "preresnet164": 0.25508, "wrn_28_10": 5.24698, "mobilenet_v2": 0.30, "efficientnet_b0": 0.386,
    "densenet121": 2.83, "googlenet": 1.50, "inception_v3": 5.71, "convnext_tiny": 4.46,
}  # fmt: skip

# The side of the smallest image the tests give it, where 32 is too small. EfficientNets need room for their statistics: see test_models.
SIDE = {"alexnet": 64, "alexnet_2012": 64, "inception_v3": 75} | dict.fromkeys(FAMILIES["EfficientNet"], 192)
